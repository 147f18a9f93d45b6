"""What protocols on frozen features share: choice of images, random weights beside, form of the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from monai_anat.data.items import DatalistError
from monai_anat.evaluation.bootstrap import PatientBootstrap, undefined_metric
from monai_anat.evaluation.frozen import CollapsedFeaturesError, FrozenEncoder
from monai_anat.evaluation.results import compare_metrics
from monai_anat.keys import IMAGE
from monai_anat.networks.backbones.backbone import Backbone

__all__ = [
    "RANDOM",
    "FrozenProtocol",
    "Items",
    "Measured",
    "Metrics",
    "file_names",
    "image_fingerprint",
    "json_settings",
    "patient_notes",
    "patients_of",
    "three_cases",
]

Items = Sequence[Mapping[str, Any]]
Metrics = dict[str, dict[str, Any]]

RANDOM = "random initialization"


@dataclass
class Measured:
    """What a protocol found for one encoder.

    Attributes:
        metrics: name -> metric.
        cases: what is needed to draw the best, the median and the worst case.
        extra: further entries of the result, plain JSON values.
        notes: sentences on what was left out, and why.
    """

    metrics: Metrics
    cases: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class FrozenProtocol(ABC):
    """A protocol that needs no training: measure the encoder and, beside it, its architecture with random weights.

    Args:
        max_images: more images than this are not looked at; the choice is by seed. It bounds time and memory.
        seed: of every draw in the protocol and of the resampling.
        random_seed: of the random weights; None leaves that baseline out.
        resamples: of the bootstrap over patients.
        confidence: of the intervals.
    """

    #: stands in the result and after ``--protocols``
    name: ClassVar[str]
    #: metric (up to the first "/") -> (better: "higher", "lower" or None; unit)
    kinds: ClassVar[dict[str, tuple[str | None, str]]]
    #: patients that the protocol needs at least
    least_patients: ClassVar[int] = 2
    #: cells per side of the dense map that it needs at least
    least_grid: ClassVar[int] = 1
    #: what :meth:`usable` asks of an image, in words
    needs: ClassVar[str] = "an image"

    max_images: int = 100
    seed: int = 0
    random_seed: int | None = 0
    resamples: int = 1000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.max_images < 1:
            raise ValueError(f"max_images must be at least 1, got {self.max_images}")

    def run(self, encoder: Backbone | FrozenEncoder, datalist: Items) -> dict[str, Any]:
        """Measure an encoder.

        Args:
            encoder: a frozen encoder; a plain backbone is taken at the defaults of :class:`FrozenEncoder`.
            datalist: items ``{"image", "patient", ...}``.

        Returns:
            The result in the form that :mod:`monai_anat.evaluation` describes.

        Raises:
            DatalistError: too few images or patients.
            ValueError: an encoder that the protocol cannot measure.
        """
        frozen = FrozenEncoder.of(encoder)
        items = self.check(frozen, datalist)
        bootstrap = PatientBootstrap(
            patients_of(items), resamples=self.resamples, confidence=self.confidence, seed=self.seed
        )
        measured = self._safely(frozen, items, bootstrap)
        baselines = self.baselines(frozen, items, bootstrap)
        if self.random_seed is not None:
            baselines[RANDOM] = self._safely(frozen.random(self.random_seed), items, bootstrap).metrics
        return {
            "protocol": self.name,
            "settings": {**json_settings(self), "encoder": frozen.settings},
            "n_images": len(items),
            "n_patients": len(bootstrap.names),
            "patients": bootstrap.fingerprint,
            "images": image_fingerprint(items),
            "metrics": measured.metrics,
            "baselines": baselines,
            "comparisons": {name: compare_metrics(measured.metrics, other) for name, other in baselines.items()},
            "cases": measured.cases,
            "notes": measured.notes + self._left_out(datalist) + patient_notes(items),
            **measured.extra,
        }

    def check(self, encoder: FrozenEncoder, datalist: Items) -> Items:
        """The images to look at, once encoder and list are found to allow an answer; nothing is computed.

        Raises:
            DatalistError: too few images or patients.
            SmallMapError: too few cells.
        """
        items = self.select(datalist)
        encoder.check_grid(self.least_grid)
        return items

    def usable(self, item: Mapping[str, Any]) -> bool:
        """Whether an item has what the protocol needs beside the image; the others are left out, and counted."""
        return True

    @abstractmethod
    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Measure one encoder on chosen images; raise ``CollapsedFeaturesError`` where there is nothing to score."""

    def baselines(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> dict[str, Metrics]:
        """Metrics that need no trained features, such as the same position."""
        return {}

    def select(self, datalist: Items) -> list[Mapping[str, Any]]:
        """The images to look at.

        Raises:
            DatalistError: none, or fewer patients than the protocol needs.
        """
        if not datalist:
            raise DatalistError(f"datalist must hold at least one image for {self.name}, got none; name another split")
        items = [item for item in datalist if self.usable(item)]
        if not items:
            raise DatalistError(
                f"datalist must hold images with {self.needs} for {self.name}, got none among {len(datalist)} items, "
                f"the first with {sorted(datalist[0])}"
            )
        if len(items) > self.max_images:
            chosen = np.random.default_rng(self.seed).permutation(len(items))[: self.max_images]
            items = [items[index] for index in sorted(chosen.tolist())]
        patients = set(patients_of(items))
        if len(patients) < self.least_patients:
            raise DatalistError(
                f"datalist must hold at least {self.least_patients} patients for {self.name}, got {len(items)} images "
                f"of {len(patients)}; look at the items' 'patient'"
            )
        return items

    def kind(self, name: str) -> dict[str, Any]:
        """``better`` and ``unit`` of a metric, as the bootstrap takes them."""
        better, unit = self.kinds[name.split("/", maxsplit=1)[0]]
        return {"better": better, "unit": unit}

    def means(
        self, bootstrap: PatientBootstrap, values: Mapping[str, ArrayLike], rows: ArrayLike | None = None
    ) -> Metrics:
        """Mean over patients of each of several values per row."""
        return {name: bootstrap.mean(value, rows, **self.kind(name)) for name, value in values.items()}

    def _left_out(self, datalist: Items) -> list[str]:
        count = sum(not self.usable(item) for item in datalist)
        return [f"{count} of {len(datalist)} images are left out, which have no {self.needs}."] if count else []

    def _safely(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """The measure, or metrics without a value where the features are all equal."""
        try:
            return self.measure(encoder, items, bootstrap)
        except CollapsedFeaturesError as error:
            metrics = {name: undefined_metric(str(error), **self.kind(name)) for name in self.kinds}
            return Measured(metrics, notes=[f"{error}."], extra={"collapsed": True})


def json_settings(protocol: Any) -> dict[str, Any]:
    """The arguments of a protocol, a dataclass, as JSON values."""
    values = {entry.name: getattr(protocol, entry.name) for entry in dataclasses.fields(protocol) if entry.init}
    settings: dict[str, Any] = json.loads(json.dumps(values, default=_plain))
    return settings


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value) if isinstance(value, Path) else list(value)


def patients_of(items: Items) -> list[str]:
    """The patient of each item; where the list names none, the file, by its name if no other file has that name.

    >>> patients_of([{"image": "x/a.png"}, {"image": "b.png", "patient": 7}])
    ['a.png', '7']
    >>> patients_of([{"image": "x/a.png"}, {"image": "y/a.png"}])
    ['x/a.png', 'y/a.png']
    """
    named = [item.get("patient") for item in items]
    return [
        file if patient in (None, "") else str(patient) for patient, file in zip(named, file_names(items), strict=True)
    ]


def file_names(items: Items) -> list[str]:
    """What the file of each item is called: its name, or its path where two files have one name."""
    files = [str(item[IMAGE]) for item in items]
    unique = len({Path(file).name for file in files}) == len(set(files))
    return [Path(file).name if unique else file for file in files]


def image_fingerprint(items: Items) -> str:
    """Hash of the files' names: results may be compared where it agrees.

    >>> image_fingerprint([{"image": "x/a.png"}]) == image_fingerprint([{"image": "y/a.png"}])
    True
    """
    return hashlib.blake2b("\n".join(sorted(file_names(items))).encode(), digest_size=8).hexdigest()


def patient_notes(items: Items) -> list[str]:
    """The sentence that says how many images name no patient.

    >>> patient_notes([{"image": "a.png"}, {"image": "b.png", "patient": 7}])
    ["1 of 2 images names no 'patient', and each counts as a patient of its own."]
    """
    count = sum(item.get("patient") in (None, "") for item in items)
    if not count:
        return []
    verb = "names" if count == 1 else "name"
    return [f"{count} of {len(items)} images {verb} no 'patient', and each counts as a patient of its own."]


def three_cases(scores: ArrayLike, better: str, describe: Any) -> dict[str, Any]:
    """The best, the median and the worst of some cases.

    Args:
        scores: (N,) one score per case, NaN where undefined.
        better: "higher" or "lower".
        describe: position of a case -> what is needed to draw it.

    >>> three_cases([3.0, 1.0, 2.0], "lower", lambda index: {"number": index})["best"]
    {'number': 1, 'score': 1.0}
    """
    values = np.asarray(scores, dtype=np.float64)
    order = np.argsort(values if better == "lower" else -values, kind="stable")
    order = order[np.isfinite(values[order])]
    if not len(order):
        return {}
    chosen = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]}
    return {name: {**describe(int(index)), "score": float(values[index])} for name, index in chosen.items()}
