"""Few-shot segmentation protocol over numbers of labels."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from matplotlib.figure import Figure

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.splits import check_splits, take_shots
from monai_anat.evaluation.bootstrap import PatientBootstrap, nan_mean
from monai_anat.evaluation.cases import load_cases
from monai_anat.evaluation.frozen_encoder import FrozenEncoder, random_backbone
from monai_anat.evaluation.metric import Better, Metric, Metrics
from monai_anat.evaluation.patients import Items, patients_of
from monai_anat.evaluation.pictures import ReportFigure, case_captions, files_exist
from monai_anat.evaluation.probes.few_shot import FewShotSegmentation
from monai_anat.evaluation.protocol import TEST, Measured, Protocol, build_result, check_arguments, three_cases
from monai_anat.evaluation.results import Case, Result
from monai_anat.keys import IMAGE, LABEL
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.visualize.segmentations import draw_segmentations

__all__ = ["FewShotCurve"]

MODES = ("fine-tuned", "frozen")
KINDS: dict[str, tuple[Better, str]] = {
    "dice": ("higher", "Dice"),
    "hd95": ("lower", "image sides"),
    "hd95_mm": ("lower", "mm"),
}
#: default numbers of labels, as far as there are enough images (Adam, arXiv:2309.15358)
SHOTS = (1, 3, 6, 12, 24)
#: fewest draws of labeled images for an interval
MIN_DRAWS = 3


@dataclass(kw_only=True)
class FewShotCurve(Protocol):
    """:class:`FewShotSegmentation` over numbers of labels, with the encoder fine-tuned and frozen.

    Reports Dice and HD95 of every structure and their means over structures, averaged over draws and test patients.
    HD95 is in sides of the network's square input, and also in mm if the spacing is known. Intervals cover draws and
    patients, and need at least three draws. The baseline is the same architecture from scratch (frozen: random
    weights). Overlapping structures are read from bit masks with ``few_shot={"overlapping": True, "label_key":
    "label_multi", "class_names": [...]}``. With fewer than ``least_patients`` test patients the result is a case
    series: every image is listed, and there are no intervals.

    Args:
        shots: numbers of labeled images per draw. By default those of 1, 3, 6, 12 and 24 for which there are enough
            training images.
        fractions: fractions of the labeled training images, measured in addition to ``shots``.
        modes: "fine-tuned", "frozen" or both.
        few_shot: further arguments of :class:`FewShotSegmentation`.
        least_patients: smallest number of test patients for intervals.
        scratch: whether to compare with the architecture from scratch.
        seed: random seed of the resampling.
        resamples: number of bootstrap resamples.
        confidence: coverage of the intervals.
        output_dir: folder for the results and masks of every number of labels and mode; None writes none.

    >>> FewShotCurve(shots=(1, 3), modes=("frozen",)).name
    'few-shot'
    """

    name: ClassVar[str] = "few-shot"
    sections: ClassVar[tuple[str, ...]] = ("training", "validation", TEST)
    in_all: ClassVar[bool] = False

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

    @classmethod
    def parameters(cls) -> Mapping[str, inspect.Parameter]:
        """Return its own arguments and those of :class:`FewShotSegmentation`."""
        return {**inspect.signature(FewShotSegmentation).parameters, **inspect.signature(cls).parameters}

    @classmethod
    def create(cls, options: Mapping[str, Any], data: str | os.PathLike[str], folder: Path) -> FewShotCurve:
        """Create the protocol from its own arguments and those of :class:`FewShotSegmentation` in one mapping."""
        given = {"output_dir": folder / "few_shot", **options}
        check_arguments(cls.name, cls.parameters(), given)
        known = inspect.signature(cls).parameters
        own = {key: value for key, value in given.items() if key in known}
        further = {key: value for key, value in given.items() if key not in known}
        return cls(**{**own, "few_shot": {**own.get("few_shot", {}), **further}})

    def run(self, encoder: Backbone | FrozenEncoder, training: Items, validation: Items, test: Items) -> Result:
        """Fine-tune and score.

        Args:
            encoder: the pre-trained encoder. A :class:`FrozenEncoder` also gives image size and normalization.
            training: items ``{"image", "label", "patient"}`` to draw from.
            validation: items for the choice of the learning rate.
            test: items to report.

        Raises:
            ValueError: if there are fewer training images than the largest number of shots.
            DatalistError: if a list is empty, or a patient is in two of them.
        """
        frozen, given = FrozenEncoder.of(encoder), (training, validation, test)
        training, validation, test, numbers = self.check(frozen, *given)
        left_out = sum(map(len, given)) - len(training) - len(validation) - len(test)
        arms = {"pre-trained": lambda: copy.deepcopy(frozen.backbone).requires_grad_(True)}
        if self.scratch:
            # called with the random state of the draw
            arms["scratch"] = lambda: random_backbone(frozen.backbone, int(torch.randint(2**31, ()))).requires_grad_(
                True
            )
        bootstrap = PatientBootstrap(
            patients_of(test), resamples=self.resamples, confidence=self.confidence, seed=self.seed
        )
        overlapping = bool(self.few_shot.get("overlapping", False))  # bits are no class numbers to draw
        metrics: dict[str, Metrics] = {arm: {} for arm in arms}
        rates: dict[str, Any] = {}
        cases: dict[str, Case] = {}
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
        few = len(bootstrap.names) < self.least_patients
        notes = [f"A case series: {len(bootstrap.names)} test patients are too few for intervals."] if few else []
        notes += [f"{left_out} images without {self._label_key!r} are left out."] if left_out else []
        own_metrics = metrics.pop("pre-trained")
        extra = {
            "case_series": {"images": [str(item[IMAGE]) for item in test], "scores": series},
            "learning_rates": rates,
            "structure_names": list(self.few_shot.get("class_names", FewShotSegmentation().class_names)),
            "n_labels": numbers,
            "n_draws": len(self._protocol(frozen, 1, self.modes[0]).seeds),
            "curves": self._curves(numbers, own_metrics),
        }
        combined = build_result(self, frozen, test, bootstrap, Measured(own_metrics, cases, extra, notes), metrics)
        combined.settings["output_dir"] = None
        if few:
            combined.comparisons = {}
        return combined

    @classmethod
    def draw_cases(cls, result: Result, lead: str) -> list[ReportFigure]:
        """Draw the masks of the last setting's first draw."""
        drawn = {place: case for place, case in result.cases.items() if files_exist(case, "masks")}
        if not drawn:
            return []
        captions = [case_captions(result)[place] for place in drawn]
        cases = list(drawn.values())
        figure = _draw(cases, captions, result.extra["structure_names"])
        setting = f" of {cases[0]['setting']}" if "setting" in cases[0] else ""
        return [ReportFigure(figure, f"{lead}best, median and worst case{setting}; dashed: the reader's outline")]

    def check(
        self, encoder: FrozenEncoder, training: Items, validation: Items, test: Items
    ) -> tuple[Items, Items, Items, dict[str, int]]:
        """Return the images with masks of each list and the numbers of labels, after reading every mask in use.

        Raises:
            ValueError: if there are fewer training images than the largest number of shots.
            DatalistError: if a list is empty, a patient is in two of them, or masks show no structure or an unknown
                class.
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
            take_shots(splits["training"], number, 0)  # raises if there are too few
        # smaller draws are contained in larger ones
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
        """Compute Dice and HD95 of every structure, and their means."""
        metrics: Metrics = {}
        why = "a case series has no interval" if len(bootstrap.names) < self.least_patients else ""
        if len(draws) < MIN_DRAWS:
            why = why or f"an interval needs at least {MIN_DRAWS} draws of training images, got {len(draws)}"
        for kind, (better, unit) in KINDS.items():
            table = {
                name: np.array([draw["by_structure"][name][kind] for draw in draws], dtype=np.float64)
                / (image_size if kind == "hd95" else 1)
                for name in draws[0]["by_structure"]
            }  # (S, N) each
            mean = nan_mean(np.stack(list(table.values())), axis=0)
            if kind == "hd95_mm" and np.isnan(mean).all():
                continue  # no image has a known spacing
            for name, values in {"": mean, **table}.items():
                key = "/".join(part for part in (kind, name, label) if part)
                if np.isnan(values).all():
                    gone = f"no test mask shows {name or 'any structure'}"
                    metrics[key] = Metric.undefined(gone, better=better, unit=unit)
                    continue
                metric = bootstrap.draw_mean(values, better=better, unit=unit)
                metrics[key] = metric.without_interval(why) if why else metric
        return metrics

    def _curves(self, numbers: Mapping[str, int], metrics: Metrics) -> list[dict[str, Any]]:
        """Describe the curves of mean scores over the number of labels; none for a single number."""
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

    def _cases(self, draw: Mapping[str, Any], test: Items, masks: Path | None, label: str) -> dict[str, Case]:
        """Choose best, median and worst image of the last setting's first draw, with the file of its masks."""

        def describe(index: int) -> dict[str, Any]:
            place = {} if masks is None else {"masks": str(masks), "arm": f"pre-trained/{draw['seed']}"}
            setting = f"{label}, draw {draw['seed']}"
            return {"image": str(test[index][IMAGE]), "index": index, "setting": setting, **place}

        return three_cases(draw["dice_by_image"], "higher", describe)


def _draw(cases: Sequence[Case], captions: Sequence[str], names: Sequence[str]) -> Figure:
    with np.load(cases[0]["masks"], allow_pickle=False) as file:
        images, masks, labels = (file[name] for name in ("images", cases[0]["arm"], "labels"))
    chosen = [case["index"] for case in cases]
    return draw_segmentations(images[chosen], masks[chosen], labels[chosen], names, captions)
