"""Segmentation from 1, 3, 6, 12 labels, with the encoder frozen and fine-tuned, as one result with intervals."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.splits import check_splits, take_shots
from monai_anat.evaluation.bootstrap import PatientBootstrap, undefined_metric
from monai_anat.evaluation.cases import load_cases
from monai_anat.evaluation.frozen import FrozenEncoder, random_backbone
from monai_anat.evaluation.frozen_protocol import (
    Items,
    Metrics,
    image_fingerprint,
    json_settings,
    patient_notes,
    patients_of,
    three_cases,
)
from monai_anat.evaluation.paired import nan_mean
from monai_anat.evaluation.probes.few_shot import FewShotSegmentation
from monai_anat.evaluation.results import compare_metrics
from monai_anat.keys import IMAGE, LABEL
from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["FewShotCurve"]

MODES = ("fine-tuned", "frozen")
KINDS: dict[str, tuple[str, str]] = {
    "dice": ("higher", "Dice"),
    "hd95": ("lower", "image sides"),
    "hd95_mm": ("lower", "mm"),
}
#: numbers of labels that are measured where nothing else is asked, as far as there are so many (Adam, arXiv:2309.15358)
SHOTS = (1, 3, 6, 12, 24)
#: draws of the labeled images that an interval needs at least
LEAST_DRAWS = 3


@dataclass(kw_only=True)
class FewShotCurve:
    """:class:`FewShotSegmentation` over numbers of labels, with the encoder fine-tuned and frozen.

    Dice and HD95 (in sides of the square that the network sees; in mm, too, where images say their spacing) of every
    structure and their means over structures, averaged over draws and test patients; intervals cover both, and need
    at least three draws. The baseline is the same architecture from scratch (frozen: random weights). Structures that
    overlap are read from bit masks by ``few_shot={"overlapping": True, "label_key": "label_multi", "class_names":
    [...]}``. With fewer than ``least_patients`` test patients the result is a case series: every image is listed, and
    no interval is given.

    Args:
        shots: labeled images per draw; numbers beyond the training images are an error. By default those of 1, 3, 6,
            12 and 24 that there are.
        fractions: shares of the labeled training images, measured besides ``shots``.
        modes: "fine-tuned", "frozen" or both.
        few_shot: further arguments of :class:`FewShotSegmentation`.
        least_patients: of the test list, for intervals.
        scratch: compare with the architecture from scratch.
        seed: of the resampling.
        resamples: of the bootstrap.
        confidence: of the intervals.
        output_dir: gets the results and masks of every number of labels and mode, where given.

    >>> FewShotCurve(shots=(1, 3), modes=("frozen",)).name
    'few-shot'
    """

    name: ClassVar[str] = "few-shot"

    shots: Sequence[int] | None = None
    fractions: Sequence[float] = ()
    modes: Sequence[str] = MODES
    few_shot: Mapping[str, Any] = field(default_factory=dict)
    least_patients: int = 10
    scratch: bool = True
    seed: int = 0
    resamples: int = 1000
    confidence: float = 0.95
    output_dir: str | os.PathLike[str] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.shots, int):
            raise ValueError(f"shots must be a list such as {list(SHOTS)}, got {self.shots}")
        none = self.shots is not None and not (len(self.shots) or self.fractions)
        if none or not self.modes or not set(self.modes) <= set(MODES):
            raise ValueError(
                f"shots or fractions must not be empty and modes be among {MODES}, got shots={self.shots}, "
                f"fractions={list(self.fractions)} and modes={list(self.modes)}"
            )
        if not all(0 < fraction <= 1 for fraction in self.fractions):
            raise ValueError(f"fractions must be in (0, 1], got {list(self.fractions)}")

        known = [entry.name for entry in dataclasses.fields(FewShotSegmentation) if entry.init]
        if unknown := sorted(set(self.few_shot) - set(known)):
            raise ValueError(f"few_shot must hold arguments of FewShotSegmentation, {known}, got {unknown}")

    def run(self, encoder: Backbone | FrozenEncoder, training: Items, validation: Items, test: Items) -> dict[str, Any]:
        """Fine-tune and score.

        Args:
            encoder: the pre-trained encoder; with a frozen one its size and normalization are taken over.
            training: items ``{"image", "label", "patient"}`` to draw from.
            validation: items that choose the learning rate.
            test: items that are reported.

        Returns:
            The result in the form that :mod:`monai_anat.evaluation` describes.

        Raises:
            ValueError: fewer training images than the largest number of shots.
            DatalistError: a patient in two of the lists, or an empty list.
        """
        frozen, given = FrozenEncoder.of(encoder), (training, validation, test)
        training, validation, test, numbers = self.check(frozen, *given)
        left_out = sum(map(len, given)) - len(training) - len(validation) - len(test)
        arms = {"pre-trained": lambda: copy.deepcopy(frozen.backbone).requires_grad_(True)}
        if self.scratch:
            # called under the seed of the draw
            arms["scratch"] = lambda: random_backbone(frozen.backbone, int(torch.randint(2**31, ()))).requires_grad_(
                True
            )
        bootstrap = PatientBootstrap(
            patients_of(test), resamples=self.resamples, confidence=self.confidence, seed=self.seed
        )
        overlapping = bool(self.few_shot.get("overlapping", False))  # bits are no class numbers to draw
        metrics: dict[str, Metrics] = {arm: {} for arm in arms}
        rates: dict[str, Any] = {}
        cases: dict[str, Any] = {}
        series: dict[str, Any] = {}
        for name, shots in numbers.items():
            for mode in self.modes:
                label = f"{name}, {mode}"
                result = self._protocol(frozen, shots, mode).compare(arms, training, validation, test)
                rates[label] = {arm: found["learning_rate"] for arm, found in result["arms"].items()}
                for arm, found in result["arms"].items():
                    metrics[arm] |= self._metrics(bootstrap, found["draws"], label, result["protocol"]["image_size"])
                own = result["arms"]["pre-trained"]["draws"]
                series[label] = {str(draw["seed"]): draw["by_structure"] for draw in own}
                folder = self._folder(shots, mode)
                drawn = None if folder is None or overlapping else folder / "few_shot_masks.npz"
                cases = self._cases(own[0], test, drawn, label)
        own_metrics = metrics.pop("pre-trained")
        few = len(bootstrap.names) < self.least_patients
        notes = [f"A case series: {len(bootstrap.names)} test patients are too few for intervals."] if few else []
        notes += [f"{left_out} images without {self._label_key!r} are left out."] if left_out else []
        notes += patient_notes(test)
        return {
            "protocol": self.name,
            "settings": {**json_settings(self), "output_dir": None, "encoder": frozen.settings},
            "n_images": len(test),
            "n_patients": len(bootstrap.names),
            "patients": bootstrap.fingerprint,
            "images": image_fingerprint(test),
            "metrics": own_metrics,
            "baselines": metrics,
            "comparisons": {} if few else {arm: compare_metrics(own_metrics, other) for arm, other in metrics.items()},
            "cases": cases,
            "case_series": {"images": [str(item[IMAGE]) for item in test], "scores": series},
            "learning_rates": rates,
            "structure_names": list(self.few_shot.get("class_names", FewShotSegmentation().class_names)),
            "n_labels": numbers,
            "n_draws": len(self._protocol(frozen, 1, self.modes[0]).seeds),
            "curves": self._curves(numbers, own_metrics),
            "notes": notes,
        }

    def check(
        self, encoder: FrozenEncoder, training: Items, validation: Items, test: Items
    ) -> tuple[Items, Items, Items, dict[str, int]]:
        """The images with masks of each list, and the numbers of labels; every mask that will be used is looked at.

        Raises:
            ValueError: fewer training images than the largest number of shots.
            DatalistError: an empty list, a patient in two of them, or masks that show no structure or an unknown class.
        """
        key = self._label_key
        splits: dict[str, Items] = {
            name: [item for item in items if item.get(key)]
            for name, items in (("training", training), ("validation", validation), ("test", test))
        }
        for name, items in splits.items():
            if not items:
                raise DatalistError(f"{name} must hold at least one image with {key!r}, got none")
        check_splits(splits)
        shots = [number for number in SHOTS if number <= len(splits["training"])] if self.shots is None else self.shots
        numbers = {f"{number} label{'s' * (number > 1)}": number for number in shots}
        numbers |= {
            f"{100 * part:g}% of labels": max(1, round(part * len(splits["training"]))) for part in self.fractions
        }
        for number in numbers.values():
            take_shots(splits["training"], number, 0)  # says at once what cannot be drawn
        # smaller draws are parts of larger ones
        largest = self._protocol(encoder, max(numbers.values()), self.modes[0])
        drawn = [item for seed in largest.seeds for item in take_shots(splits["training"], largest.shots, seed)]
        used = {**splits, "training": list({str(item[IMAGE]): item for item in drawn}.values())}
        for name, items in used.items():
            largest.check_masks(name, load_cases(items, largest.image_size, key))
        return splits["training"], splits["validation"], splits["test"], numbers

    @property
    def _label_key(self) -> str:
        return str(self.few_shot.get("label_key", LABEL))

    def _protocol(self, encoder: FrozenEncoder, shots: int, mode: str) -> FewShotSegmentation:
        own: dict[str, Any] = {
            "image_size": encoder.image_size,
            "mean": encoder.settings["mean"],
            "std": encoder.settings["std"],
            "device": encoder.device,
        }
        own["output_dir"] = self._folder(shots, mode)
        return FewShotSegmentation(**{**own, **self.few_shot, "shots": shots, "frozen": mode == "frozen"})

    def _folder(self, shots: int, mode: str) -> Path | None:
        return None if self.output_dir is None else Path(self.output_dir) / f"{shots}_{mode}"

    def _metrics(
        self, bootstrap: PatientBootstrap, draws: Sequence[Mapping[str, Any]], label: str, image_size: int
    ) -> Metrics:
        """Dice and HD95 of every structure, and their means."""
        metrics: Metrics = {}
        why = "a case series has no interval" if len(bootstrap.names) < self.least_patients else ""
        if len(draws) < LEAST_DRAWS:
            why = why or f"an interval needs at least {LEAST_DRAWS} draws of training images, got {len(draws)}"
        for kind, (better, unit) in KINDS.items():
            table = {
                name: np.array([draw["by_structure"][name][kind] for draw in draws], dtype=np.float64)
                / (image_size if kind == "hd95" else 1)
                for name in draws[0]["by_structure"]
            }  # (S, N) each
            mean = nan_mean(np.stack(list(table.values())), axis=0)
            if kind == "hd95_mm" and np.isnan(mean).all():
                continue  # no image says its spacing
            for name, values in {"": mean, **table}.items():
                key = "/".join(part for part in (kind, name, label) if part)
                if np.isnan(values).all():
                    gone = f"no test mask shows {name or 'any structure'}"
                    metrics[key] = undefined_metric(gone, better=better, unit=unit)
                    continue
                metrics[key] = bootstrap.draw_mean(values, better=better, unit=unit)
                if why:
                    metrics[key] |= {"low": None, "high": None, "why": why}
        return metrics

    def _curves(self, numbers: Mapping[str, int], metrics: Metrics) -> list[dict[str, Any]]:
        """Every mean over structures against the number of labels, as far as there is more than one."""
        if len(set(numbers.values())) < 2:
            return []
        return [
            {
                "x_label": "labeled images",
                "y_label": unit if kind == "dice" else f"HD95, {unit}, lower is better",
                "ways": {
                    mode: [[count, f"{kind}/{name}, {mode}"] for name, count in numbers.items()] for mode in self.modes
                },
            }
            for kind, (_, unit) in KINDS.items()
            if any(metric.startswith(f"{kind}/") for metric in metrics)
        ]

    def _cases(self, draw: Mapping[str, Any], test: Items, masks: Path | None, label: str) -> dict[str, Any]:
        """Best, median and worst image of the last setting's first draw, and where its masks are."""

        def describe(index: int) -> dict[str, Any]:
            place = {} if masks is None else {"masks": str(masks), "arm": f"pre-trained/{draw['seed']}"}
            setting = f"{label}, draw {draw['seed']}"
            return {"image": str(test[index][IMAGE]), "index": index, "setting": setting, **place}

        return three_cases(draw["dice_by_image"], "higher", describe)
