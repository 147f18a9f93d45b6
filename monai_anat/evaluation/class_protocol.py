"""Protocols on class labels of training, validation and test images."""

from __future__ import annotations

import json
import os
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.splits import check_splits
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.class_task import ClassTask, read_class_task
from monai_anat.evaluation.features import CollapsedFeaturesError, centered
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.metric import Metric
from monai_anat.evaluation.patients import Items, patients_of
from monai_anat.evaluation.protocol import RANDOM, TEST, Measured, Protocol, build_result, check_arguments
from monai_anat.evaluation.results import Result
from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["ClassProtocol", "Split", "label_names"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Embeddings and labels of one split.

    Attributes:
        features: (N, D).
        labels: (N, C) of 0 and 1, NaN if unknown.
    """

    features: Floats
    labels: Floats


@dataclass(kw_only=True)
class ClassProtocol(Protocol):
    """A classifier on frozen embeddings, compared with one on an encoder with random weights.

    Labels are read by :func:`~monai_anat.data.read_class_labels`: a class number, a list of 0, 1 or unknown (-1, None)
    with one entry per finding, or, with ``class_names``, names or one column per finding. Unknown labels are ignored,
    finding by finding, in training and testing. The area under the ROC curve compares one class with the rest.

    Args:
        class_names: names of the classes or findings; numbers by default.
        seed: random seed of the resampling.
        random_seed: random seed of the weights of the baseline; None omits this baseline.
        resamples: number of bootstrap resamples over test patients.
        confidence: coverage of the intervals.
    """

    sections: ClassVar[tuple[str, ...]] = ("training", "validation", TEST)

    class_names: Sequence[str] | None = None
    seed: int = 0
    random_seed: int | None = 0
    resamples: int = 1000
    confidence: float = 0.95

    @classmethod
    def create(cls, options: Mapping[str, Any], data: str | os.PathLike[str], folder: Path) -> ClassProtocol:
        """Create the protocol, with the class names of the datalist unless they are given."""
        given = {"class_names": label_names(data), **options}
        check_arguments(cls.name, cls.parameters(), given)
        return cls(**given)

    def run(self, encoder: Backbone | FrozenEncoder, training: Items, validation: Items, test: Items) -> Result:
        """Fit on the training images, choose hyperparameters on the validation images, report the test images.

        Args:
            encoder: a frozen encoder; a plain backbone gets the default settings of :class:`FrozenEncoder`.
            training: items ``{"image", "label", "patient"}``.
            validation: items for the choice of hyperparameters.
            test: items to report.

        Returns:
            The result; ``extra["predictions"]`` holds the predictions of the test images.

        Raises:
            DatalistError: if a split is empty, a patient is in two splits, or labels cannot be read.
        """
        frozen, splits = FrozenEncoder.of(encoder), {"training": training, "validation": validation, "test": test}
        task, labels = self.check(frozen, training, validation, test)
        bootstrap = self._bootstrap(test)
        parts = np.split(labels, np.cumsum([len(training), len(validation)]))

        def measure(one: FrozenEncoder) -> Measured:
            rows = [one.embeddings(items).astype(np.float64) for items in splits.values()]
            centered(np.concatenate(rows))
            data = [Split(row, part) for row, part in zip(rows, parts, strict=True)]
            return self.measure(data[0], data[1], data[2], splits, task, bootstrap)

        return self._result(frozen, measure, bootstrap, task, test, len(training))

    def check(
        self, encoder: FrozenEncoder, training: Items, validation: Items, test: Items
    ) -> tuple[ClassTask, Floats]:
        """Read the task and the labels (N, C) of all lists; nothing is computed.

        Raises:
            DatalistError: if a split is empty, a patient is in two splits, or labels cannot be read.
        """
        splits = {"training": training, "validation": validation, "test": test}
        for name, items in splits.items():
            if not items:
                raise DatalistError(f"{name} must hold at least one image for {self.name}, got none")
        check_splits(splits)
        return read_class_task([*training, *validation, *test], self.class_names)

    def _bootstrap(self, items: Items) -> PatientBootstrap:
        return PatientBootstrap(
            patients_of(items), resamples=self.resamples, confidence=self.confidence, seed=self.seed
        )

    def _result(
        self,
        frozen: FrozenEncoder,
        measure: Callable[[FrozenEncoder], Measured],
        bootstrap: PatientBootstrap,
        task: ClassTask,
        items: Items,
        training_images: int,
    ) -> Result:
        """Measure the encoder and the baseline with random weights."""
        arms = {"": frozen} | ({} if self.random_seed is None else {RANDOM: frozen.random(self.random_seed)})
        found: dict[str, Measured] = {}
        for arm, one in arms.items():
            try:
                found[arm] = measure(one)
            except CollapsedFeaturesError as error:
                metrics = {"auroc": Metric.undefined(str(error), better="higher", unit="AUROC")}
                found[arm] = Measured(metrics, notes=[f"{error}."], collapsed=True)
        own = found.pop("")
        own.extra = {"n_training": training_images, "class_names": list(task.names), **own.extra}
        baselines = {arm: measured.metrics for arm, measured in found.items()}
        return build_result(self, frozen, items, bootstrap, own, baselines)

    def measure(
        self,
        training: Split,
        validation: Split,
        test: Split,
        splits: Mapping[str, Items],
        task: ClassTask,
        bootstrap: PatientBootstrap,
    ) -> Measured:
        """Fit, predict the test images and score them."""
        scores, chosen = self.predict(training, validation, test.features, task.one_of_many)
        return task.score(scores, test.labels, splits["test"], bootstrap, chosen, training.labels)

    @abstractmethod
    def predict(
        self, training: Split, validation: Split, test: Floats, one_of_many: bool
    ) -> tuple[Floats, dict[str, Any]]:
        """Predict the test embeddings.

        Args:
            training: embeddings and labels to fit on.
            validation: embeddings and labels for the choice of hyperparameters.
            test: (N, D) embeddings.
            one_of_many: whether exactly one class holds for an image.

        Returns:
            Probabilities (N, C), and the hyperparameters that were chosen.
        """


def label_names(data: str | os.PathLike[str]) -> list[str] | None:
    """Return ``label_names`` of a JSON datalist; None if it has no such list."""
    path = Path(data) / "datalist.json" if Path(data).is_dir() else Path(data)
    if path.suffix != ".json" or not path.is_file():
        return None
    content = json.loads(path.read_text(encoding="utf-8"))
    names = content.get("label_names") if isinstance(content, dict) else None
    return [str(name) for name in names] if isinstance(names, list) else None
