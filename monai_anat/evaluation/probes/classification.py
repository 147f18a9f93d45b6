"""Class labels read off frozen embeddings: by a linear layer, or by the nearest neighbors."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.splits import check_splits
from monai_anat.evaluation.bootstrap import PatientBootstrap, undefined_metric
from monai_anat.evaluation.class_task import ClassTask, read_class_task
from monai_anat.evaluation.frozen import CollapsedFeaturesError, FrozenEncoder, centered
from monai_anat.evaluation.frozen_protocol import (
    RANDOM,
    Items,
    Measured,
    image_fingerprint,
    json_settings,
    patient_notes,
    patients_of,
)
from monai_anat.evaluation.results import compare_metrics
from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["ClassificationProbe", "LinearProbe", "NearestNeighborProbe", "Split"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Split:
    """Embeddings (N, D) and labels (N, C) of one split; NaN where a label is unknown."""

    features: Floats
    labels: Floats


@dataclass(kw_only=True)
class ClassificationProbe(ABC):
    """What the probes on class labels share: reading labels, AUROC per class with intervals, random weights beside.

    Labels are read by :func:`~monai_anat.data.read_class_labels`: a class number, 0, 1 or unknown (-1, None) for each
    finding, or, given ``class_names``, names or a column per finding. Unknown ones are left out finding by finding, in
    training and in testing. Areas under the ROC curve are one class against the rest.

    Args:
        class_names: of the classes or findings; numbers by default.
        seed: of the resampling.
        random_seed: of the random weights; None leaves that baseline out.
        resamples: of the bootstrap over test patients.
        confidence: of the intervals.
    """

    #: stands in the result and after ``--protocols``
    name: ClassVar[str]

    class_names: Sequence[str] | None = None
    seed: int = 0
    random_seed: int | None = 0
    resamples: int = 1000
    confidence: float = 0.95

    def run(self, encoder: Backbone | FrozenEncoder, training: Items, validation: Items, test: Items) -> dict[str, Any]:
        """Learn from the training images, choose by the validation images, report the test images.

        Args:
            encoder: a frozen encoder; a plain backbone is taken at the defaults of :class:`FrozenEncoder`.
            training: items ``{"image", "label", "patient"}``.
            validation: items that choose what there is to choose.
            test: items that are reported.

        Returns:
            The result in the form that :mod:`monai_anat.evaluation` describes, with ``predictions`` of the test images.

        Raises:
            DatalistError: an empty split, a patient in two splits, or labels that cannot be read.
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
        """The task and the labels (N, C), once the lists are found to allow an answer; nothing is computed.

        Raises:
            DatalistError: an empty split, a patient in two splits, or labels that cannot be read.
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
    ) -> dict[str, Any]:
        """The result of the encoder with random weights beside it."""
        arms = {"": frozen} | ({} if self.random_seed is None else {RANDOM: frozen.random(self.random_seed)})
        found: dict[str, Measured] = {}
        for arm, one in arms.items():
            try:
                found[arm] = measure(one)
            except CollapsedFeaturesError as error:
                metrics = {"auroc": undefined_metric(str(error), better="higher", unit="AUROC")}
                found[arm] = Measured(metrics, extra={"collapsed": True}, notes=[f"{error}."])
        own = found.pop("")
        baselines = {arm: measured.metrics for arm, measured in found.items()}
        return {
            "protocol": self.name,
            "settings": {**json_settings(self), "encoder": frozen.settings},
            "n_images": len(items),
            "n_patients": len(bootstrap.names),
            "n_training": training_images,
            "patients": bootstrap.fingerprint,
            "images": image_fingerprint(items),
            "class_names": list(task.names),
            "metrics": own.metrics,
            "baselines": baselines,
            "comparisons": {arm: compare_metrics(own.metrics, other) for arm, other in baselines.items()},
            "cases": own.cases,
            "notes": own.notes + patient_notes(items),
            **own.extra,
        }

    def measure(
        self,
        training: Split,
        validation: Split,
        test: Split,
        splits: Mapping[str, Items],
        task: ClassTask,
        bootstrap: PatientBootstrap,
    ) -> Measured:
        """Scores of the test images, and what was chosen."""
        scores, chosen = self.predict(training, validation, test.features, task.one_of_many)
        return task.score(scores, test.labels, splits["test"], bootstrap, chosen, training.labels)

    @abstractmethod
    def predict(
        self, training: Split, validation: Split, test: Floats, one_of_many: bool
    ) -> tuple[Floats, dict[str, Any]]:
        """Probability of each class for the test embeddings, (N, C), and what the validation images chose."""


@dataclass(kw_only=True)
class LinearProbe(ClassificationProbe):
    """Logistic regression on standardized embeddings.

    The penalty is the one with the lowest loss on the validation images, which, unlike their AUROC, is defined for
    findings that no validation image has.

    Args:
        penalties: weights of the squared coefficients, as multiples of the mean loss.

    >>> LinearProbe(penalties=(0.1,)).name
    'linear'
    """

    name: ClassVar[str] = "linear"

    penalties: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001)

    def predict(
        self, training: Split, validation: Split, test: Floats, one_of_many: bool
    ) -> tuple[Floats, dict[str, Any]]:
        """Fit with every penalty, from the strongest on, and keep the best on the validation images."""
        mean, std = training.features.mean(axis=0), training.features.std(axis=0)
        rows = [
            torch.as_tensor((part - mean) / np.where(std > 1e-8, std, 1))
            for part in (training.features, validation.features, test)
        ]
        truth = [torch.as_tensor(part.labels) for part in (training, validation)]
        weight = torch.zeros(rows[0].shape[1] + 1, truth[0].shape[1], dtype=torch.float64)
        losses: dict[float, float] = {}
        best = weight
        for penalty in sorted(self.penalties, reverse=True):
            weight = _fit(weight, rows[0], truth[0], penalty, one_of_many)
            losses[penalty] = float(_loss(_logits(weight, rows[1]), truth[1], one_of_many))
            if losses[penalty] == min(losses.values()):
                best = weight
        logits = _logits(best, rows[2])
        scores = logits.softmax(dim=1) if one_of_many else logits.sigmoid()
        chosen = min(losses, key=lambda value: losses[value])
        return scores.numpy(), {
            "penalty": chosen,
            "validation_loss": {f"{penalty:g}": round(loss, 6) for penalty, loss in losses.items()},
        }


@dataclass(kw_only=True)
class NearestNeighborProbe(ClassificationProbe):
    """The labels of the most similar training images, weighted by ``exp(cosine / temperature)`` (arXiv:1805.01978).

    :meth:`run` asks the training images about the test images; :meth:`run_within` needs one list only and asks, for
    each image, those of all other patients.

    Args:
        neighbors: k; all training images where there are fewer.
        temperature: of the weights.
        center: subtract the training mean first, so that what all images share does not level the cosines.

    >>> NearestNeighborProbe(neighbors=5).name
    'k-nn'
    """

    name: ClassVar[str] = "k-nn"

    neighbors: int = 20
    temperature: float = 0.07
    center: bool = True

    def predict(
        self, training: Split, validation: Split, test: Floats, one_of_many: bool
    ) -> tuple[Floats, dict[str, Any]]:
        """Vote of the neighbors; nothing is chosen, so validation images are not used."""
        share, scores = self._vote(training, test)
        return np.where(np.isnan(scores), share, scores), {"neighbors": min(self.neighbors, len(training.features))}

    def run_within(self, encoder: Backbone | FrozenEncoder, items: Items) -> dict[str, Any]:
        """Leave one patient out: the nearest images of all other patients in the list name each image.

        No image is held back, so it serves where test patients must not be looked at, as while a method is tuned.
        Nearest neighbors fit nothing; but the classes of the other patients are the rarer by those of the patient who
        is left out, so that an encoder that knows nothing lies slightly below an AUROC of one half in small lists.

        Args:
            encoder: as of :meth:`run`.
            items: items ``{"image", "label", "patient"}`` of at least two patients.

        Returns:
            The result of :meth:`run`; every image is reported.

        Raises:
            DatalistError: fewer than two patients, or labels that cannot be read.
        """
        frozen = FrozenEncoder.of(encoder)
        if len(set(patients_of(items))) < 2:
            raise DatalistError(f"items must hold at least two patients, got {len(set(patients_of(items)))}")
        (task, labels), bootstrap = read_class_task(items, self.class_names), self._bootstrap(items)
        patients = torch.as_tensor(bootstrap.patient_of)

        def measure(one: FrozenEncoder) -> Measured:
            rows = one.embeddings(items).astype(np.float64)
            centered(rows)
            share, scores = self._vote(Split(rows, labels), rows, patients[:, None] != patients)
            known = np.where(np.isnan(scores), share, scores)
            chosen = {"neighbors": min(self.neighbors, len(rows))}
            return task.score(known, labels, items, bootstrap, chosen, labels)

        result = self._result(frozen, measure, bootstrap, task, items, len(items))
        return {**result, "settings": {**result["settings"], "within": True}}

    def _vote(self, gallery: Split, queries: Floats, allowed: Tensor | None = None) -> tuple[Floats, Floats]:
        """Share of each class in the gallery (C,), and the votes (N, C), NaN where no neighbor's label is known.

        Args:
            gallery: embeddings and labels of the images that vote.
            queries: (N, D)
            allowed: (N, gallery) which of them may vote for whom; all by default.
        """
        mean = gallery.features.mean(axis=0) * self.center
        rows = F.normalize(torch.as_tensor(gallery.features - mean), dim=1)
        known = torch.as_tensor(~np.isnan(gallery.labels), dtype=torch.float64)
        labels = torch.as_tensor(np.nan_to_num(gallery.labels))
        share = labels.sum(dim=0) / known.sum(dim=0).clamp(min=1)
        scores = []
        for start in range(0, len(queries), 256):
            part = slice(start, start + 256)
            cosine = F.normalize(torch.as_tensor(queries[part] - mean), dim=1) @ rows.T
            if allowed is not None:
                cosine = cosine.masked_fill(~allowed[part], -torch.inf)  # a weight of 0 below
            best, index = cosine.topk(min(self.neighbors, len(rows)), dim=1)
            weight = ((best - best[:, :1]) / self.temperature).exp()[:, :, None] * known[index]
            scores.append((weight * labels[index]).sum(dim=1) / weight.sum(dim=1))  # 0 / 0 is NaN
        return share.numpy(), torch.cat(scores).numpy()


def _logits(weight: Tensor, rows: Tensor) -> Tensor:
    return rows @ weight[:-1] + weight[-1]


def _loss(logits: Tensor, truth: Tensor, one_of_many: bool) -> Tensor:
    """Mean cross-entropy over known labels."""
    if one_of_many:
        return F.cross_entropy(logits, truth)
    known = truth.isfinite()
    losses = F.binary_cross_entropy_with_logits(logits, truth.nan_to_num(), reduction="none")
    return (losses * known).sum() / known.sum().clamp(min=1)


def _fit(start: Tensor, rows: Tensor, truth: Tensor, penalty: float, one_of_many: bool) -> Tensor:
    """Minimize the loss of all classes at once; it is convex, so the start only saves time."""
    weight = start.clone().requires_grad_(True)
    optimizer = torch.optim.LBFGS([weight], max_iter=200, tolerance_grad=1e-6, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        squares = weight[:-1].square().sum() / truth.shape[1]
        loss = _loss(_logits(weight, rows), truth, one_of_many) + penalty / 2 * squares
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach()
