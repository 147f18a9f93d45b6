"""Protocols on frozen features of test images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from monai_anat.data.items import DatalistError
from monai_anat.evaluation.bootstrap import Kind, PatientBootstrap
from monai_anat.evaluation.features import CollapsedFeaturesError
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.metric import Better, Metric, Metrics
from monai_anat.evaluation.patients import Items, patients_of
from monai_anat.evaluation.protocol import RANDOM, Measured, Protocol, build_result
from monai_anat.evaluation.results import Result
from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["FrozenProtocol"]


@dataclass(kw_only=True)
class FrozenProtocol(Protocol):
    """A protocol without training: measure the encoder and the same architecture with random weights.

    Args:
        max_images: largest number of images; a random subset is used if there are more. It bounds time and memory.
        seed: random seed of every draw in the protocol and of the resampling.
        random_seed: random seed of the weights of the baseline; None omits this baseline.
        resamples: number of bootstrap resamples.
        confidence: coverage of the intervals.
    """

    #: kind of metric (its name up to the first "/") -> better direction and unit
    kinds: ClassVar[dict[str, tuple[Better, str]]]
    #: smallest number of patients
    least_patients: ClassVar[int] = 2
    #: smallest number of cells per side of the dense map
    least_grid: ClassVar[int] = 1
    #: what :meth:`usable` requires of an image, in words
    needs: ClassVar[str] = "an image"

    max_images: int = 100
    seed: int = 0
    random_seed: int | None = 0
    resamples: int = 1000
    confidence: float = 0.95

    def __post_init__(self) -> None:
        if self.max_images < 1:
            raise ValueError(f"max_images must be at least 1, got {self.max_images}")

    def run(self, encoder: Backbone | FrozenEncoder, datalist: Items) -> Result:
        """Measure an encoder.

        Args:
            encoder: a frozen encoder; a plain backbone gets the default settings of :class:`FrozenEncoder`.
            datalist: items ``{"image", "patient", ...}``.

        Raises:
            DatalistError: if there are too few images or patients.
            ValueError: if the protocol cannot measure the encoder.
        """
        frozen = FrozenEncoder.of(encoder)
        items = self.check(frozen, datalist)
        bootstrap = PatientBootstrap(
            patients_of(items), resamples=self.resamples, confidence=self.confidence, seed=self.seed
        )
        measured = self._measure_safely(frozen, items, bootstrap)
        baselines = self.baselines(frozen, items, bootstrap)
        if self.random_seed is not None:
            baselines[RANDOM] = self._measure_safely(frozen.random(self.random_seed), items, bootstrap).metrics
        measured.notes += self._left_out(datalist)
        return build_result(self, frozen, items, bootstrap, measured, baselines)

    def check(self, encoder: FrozenEncoder, datalist: Items) -> Items:
        """Choose the images to measure and check the encoder's map; nothing is computed.

        Raises:
            DatalistError: if there are too few images or patients.
            SmallMapError: if the dense map has too few cells.
        """
        items = self.select(datalist)
        encoder.check_grid(self.least_grid)
        return items

    def usable(self, item: Mapping[str, Any]) -> bool:
        """Say whether an item has what the protocol needs besides the image. Others are left out and counted."""
        return True

    @abstractmethod
    def measure(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Measure one encoder on the chosen images.

        Raises:
            CollapsedFeaturesError: if all features are equal.
        """

    def baselines(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> dict[str, Metrics]:
        """Compute baselines without trained features, such as the same position."""
        return {}

    def select(self, datalist: Items) -> list[Mapping[str, Any]]:
        """Choose the images to measure: those that are usable, at most ``max_images``.

        Raises:
            DatalistError: if there are none, or fewer patients than the protocol needs.
        """
        if not datalist:
            raise DatalistError(f"datalist must hold at least one image for {self.name}, got none; name another split")
        items = self._usable(datalist)
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

    def kind(self, name: str) -> Kind:
        """Return better direction and unit of a metric, as the bootstrap accepts them."""
        better, unit = self.kinds[name.split("/", maxsplit=1)[0]]
        return {"better": better, "unit": unit}

    def means(
        self, bootstrap: PatientBootstrap, values: Mapping[str, ArrayLike], rows: ArrayLike | None = None
    ) -> Metrics:
        """Average each of several values per row over patients."""
        return {name: bootstrap.mean(value, rows, **self.kind(name)) for name, value in values.items()}

    def _usable(self, datalist: Items) -> list[Mapping[str, Any]]:
        return [item for item in datalist if self.usable(item)]

    def _left_out(self, datalist: Items) -> list[str]:
        """Count what is left out of the list: images without what is needed, and images beyond ``max_images``."""
        usable = len(self._usable(datalist))
        notes = []
        if usable < len(datalist):
            count = len(datalist) - usable
            notes.append(f"{count} of {len(datalist)} images are left out, which have no {self.needs}.")
        if usable > self.max_images:
            notes.append(
                f"{self.max_images} of {usable} images are used, a random subset (seed {self.seed}); set max_images to "
                "use more."
            )
        return notes

    def _measure_safely(self, encoder: FrozenEncoder, items: Items, bootstrap: PatientBootstrap) -> Measured:
        """Measure, or return undefined metrics if all features are equal."""
        try:
            return self.measure(encoder, items, bootstrap)
        except CollapsedFeaturesError as error:
            metrics = {name: Metric.undefined(str(error), **self._direction(name)) for name in self.kinds}
            return Measured(metrics, notes=[f"{error}."], collapsed=True)

    def _direction(self, name: str) -> dict[str, Any]:
        better, unit = self.kinds[name]
        return {"better": better, "unit": unit}
