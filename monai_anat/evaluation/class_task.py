"""What a classifier is asked, as a datalist says it, and how its answers are scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.class_labels import read_class_labels
from monai_anat.evaluation.bootstrap import PatientBootstrap, undefined_metric
from monai_anat.evaluation.frozen_protocol import Items, Measured, Metrics, three_cases
from monai_anat.evaluation.paired import nan_mean
from monai_anat.keys import IMAGE, LABEL
from monai_anat.metrics.classification import area_under_pr, area_under_roc

__all__ = ["ClassTask", "accuracy", "one_sided", "rarer_patients", "read_class_task", "score_classes"]

Floats = NDArray[np.float64]

_GAPS = 20  # class numbers that no image has, from which on they are taken for something else, such as gray values
KINDS: dict[str, tuple[str | None, str]] = {"auroc": ("higher", "AUROC"), "auprc": ("higher", "average precision")}


@dataclass(frozen=True)
class ClassTask:
    """Names of C classes.

    Attributes:
        names: of the classes or findings.
        one_of_many: exactly one class holds for an image, instead of any number of findings.
    """

    names: tuple[str, ...]
    one_of_many: bool

    def score(
        self,
        scores: Floats,
        labels: Floats,
        items: Items,
        bootstrap: PatientBootstrap,
        chosen: Mapping[str, Any],
        training: Floats,
    ) -> Measured:
        """Metrics of predictions (N, C) of labels (N, C), with the predictions and what was ``chosen`` beside them.

        ``training`` are the labels that were learned from.
        """
        metrics, notes = score_classes(scores, labels, self.names, bootstrap, training)
        if self.one_of_many:
            metrics["accuracy"] = accuracy(scores, labels, bootstrap)
        predictions = {
            "images": [str(item[IMAGE]) for item in items],
            "labels": [[None if np.isnan(value) else int(value) for value in row] for row in labels],
            "probabilities": np.round(scores, 5).tolist(),
        }

        def describe(index: int) -> dict[str, Any]:
            return {key: predictions[key][index] for key in ("images", "labels", "probabilities")}

        extra = {"chosen": chosen, "predictions": predictions}
        return Measured(metrics, three_cases(_log_losses(scores, labels), "lower", describe), extra, notes)


def read_class_task(items: Items, class_names: Sequence[str] | None = None) -> tuple[ClassTask, Floats]:
    """The classes of a datalist, and its labels as rows of 0, 1 and NaN for unknown.

    Class numbers are one of many; lists, names and columns are findings, of which any number may hold. Without names,
    classes are called by their numbers, and labels must be numbers or lists.

    Args:
        items: N items; with names, every form that :func:`~monai_anat.data.read_class_labels` reads.
        class_names: C names.

    Returns:
        The task, and the labels (N, C).

    Raises:
        DatalistError: a label is missing, cannot be read, or has another form than the others.
        ValueError: as many names as there are no classes.

    >>> task, labels = read_class_task([{"image": "a", "label": 2}, {"image": "b", "label": 0}])
    >>> task.names, labels.tolist()
    (('0', '1', '2'), [[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]])
    >>> read_class_task([{"image": "a", "label": [1, -1]}])[1].tolist()
    [[1.0, nan]]
    """
    columns = any(name in item for item in items for name in class_names or ())
    numbered = not columns and all(_class_number(item.get(LABEL)) is not None for item in items)
    names = tuple(str(name) for name in class_names or range(_count_classes(items)))
    one_of_many = numbered and len(names) > 1
    rows = read_class_labels(items, names, exclusive=one_of_many)
    return ClassTask(names, one_of_many), np.stack([row[LABEL] for row in rows]).astype(np.float64)


def _class_number(label: Any) -> int | None:
    try:
        number = float(label)
    except (TypeError, ValueError):
        return None
    return int(number) if number >= 0 and number.is_integer() else None


def _count_classes(items: Items) -> int:
    """How many classes lists of findings have, or how many class numbers there are."""
    lengths, numbers = set(), set()
    for item in items:
        label: Any = item.get(LABEL)
        if isinstance(label, (list, tuple)):
            lengths.add(len(label))
        elif (number := _class_number(label)) is not None:
            lengths.add(0)
            numbers.add(number)
        else:
            raise DatalistError(
                f"every item must have a {LABEL!r} that is a class number or a list of 0, 1 and -1 (unknown), got "
                f"{label!r} for {item.get(IMAGE)}; labels of other forms need class_names"
            )
    if len(lengths) > 1:
        raise DatalistError(
            f"all items must have labels of one form, got lengths {sorted(lengths)} (0: a class number)"
        )
    if numbers and max(numbers) >= len(numbers) + _GAPS:
        raise DatalistError(
            f"class numbers must count from 0, got {sorted(numbers)[:5]}, which would be {max(numbers) + 1} classes; "
            "number them 0, 1, 2, ..."
        )
    return lengths.pop() or max(numbers) + 1


def score_classes(
    scores: Floats,
    labels: Floats,
    names: Sequence[str],
    bootstrap: PatientBootstrap,
    training: Floats | None = None,
) -> tuple[Metrics, list[str]]:
    """AUROC and AUPRC per class and macro; where a class has one kind of image only, the sentence that says so.

    ``training`` are the labels (M, C) that were learned from, where they are known: a class that has one kind of image
    only among them cannot have been learned, and is not averaged.
    """
    metrics: Metrics = {}
    notes = []
    # a repeated positive lifts the precision of all above it: replicates of the average precision lie too high
    kinds: dict[str, dict[str, Any]] = {
        kind: {"better": better, "unit": unit, "unbias": kind == "auprc", "width": 8 * len(scores)}
        for kind, (better, unit) in KINDS.items()
    }
    for kind, area in (("auroc", area_under_roc), ("auprc", area_under_pr)):
        better, unit = KINDS[kind]
        defined = []
        for index, name in enumerate(names):
            reason = one_sided(labels[:, index], name)
            if not reason and training is not None:
                reason = one_sided(training[:, index], name, "training")
            if reason:
                metrics[f"{kind}/{name}"] = undefined_metric(reason, better=better, unit=unit)
                notes += [f"{reason[0].upper()}{reason[1:]}."] if kind == "auroc" else []
                continue
            defined.append(index)
            statistic = _area_statistic(area, scores[:, [index]], labels[:, [index]], bootstrap)
            metrics[f"{kind}/{name}"] = bootstrap.estimate(
                statistic,
                **kinds[kind],
                patients=len(np.unique(bootstrap.patient_of[np.isfinite(labels[:, index])])),
                limiting=rarer_patients(labels[:, index], bootstrap),
            )
        if len(defined) == 1:
            metrics[kind] = metrics[f"{kind}/{names[defined[0]]}"]
        elif defined:
            statistic = _area_statistic(area, scores[:, defined], labels[:, defined], bootstrap)
            metrics[kind] = bootstrap.estimate(statistic, **kinds[kind])
        else:
            learned = "" if training is None else " and training images"
            why = f"no class has both positive and negative test images{learned}, so there is no area under a curve"
            metrics[kind] = undefined_metric(why, better=better, unit=unit)
    return metrics, notes


def accuracy(scores: Floats, labels: Floats, bootstrap: PatientBootstrap) -> dict[str, Any]:
    """Share of the images with a known class that score highest in it; none where they are all of one class."""
    known = np.isfinite(labels).all(axis=1)
    truth = np.nan_to_num(labels).argmax(axis=1)
    if len(np.unique(truth[known])) < 2:
        many = "no test image has a known class" if not known.any() else "all test images are of one class"
        return undefined_metric(f"{many}, so there is no accuracy", better="higher", unit="share")
    right = np.where(known, scores.argmax(axis=1) == truth, np.nan)
    return bootstrap.row_mean(right, better="higher", unit="share")


def rarer_patients(labels: Floats, bootstrap: PatientBootstrap) -> tuple[int, str]:
    """How many patients have the rarer kind of label (N,), and what they are called: they limit what is known."""
    counts = [len(np.unique(bootstrap.patient_of[labels == value])) for value in (0, 1)]
    return min(counts), f"{('negative', 'positive')[counts[1] < counts[0]]} patients"


def one_sided(labels: Floats, name: str, split: str = "test") -> str:
    """The sentence that says why a class has no area under a curve; empty where it has one."""
    known = labels[np.isfinite(labels)]
    if not len(known):
        return f"{name} has no area under a curve: no {split} image has a known label"
    if known.min() != known.max():
        return ""
    what = "negative" if known[0] == 0 else "positive"
    return f"{name} has no area under a curve: all {len(known)} {split} images with a known label are {what}"


def _area_statistic(area: Any, scores: Floats, labels: Floats, bootstrap: PatientBootstrap) -> Any:
    """Mean area over some classes as a function of the patients' weights."""

    def statistic(weights: Floats) -> Floats:
        rows = weights[:, bootstrap.patient_of]
        areas = []
        for index in range(scores.shape[1]):
            known = np.isfinite(labels[:, index])
            areas.append(area(labels[known, index], scores[known, index], rows[:, known]))
        return nan_mean(areas, axis=0)

    return statistic


def _log_losses(scores: Floats, labels: Floats) -> Floats:
    """Mean loss of each image over its known labels, NaN where none is known."""
    losses = -np.log(np.clip(np.where(labels == 1, scores, 1 - scores), 1e-7, 1))
    return nan_mean(np.where(np.isfinite(labels), losses, np.nan), axis=1)
