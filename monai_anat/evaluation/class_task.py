"""Classification tasks of a datalist and the scores of their predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.class_labels import read_class_labels
from monai_anat.evaluation.bootstrap import PatientBootstrap, nan_mean
from monai_anat.evaluation.metric import Better, Metric, Metrics
from monai_anat.evaluation.patients import Items
from monai_anat.evaluation.protocol import Measured, three_cases
from monai_anat.keys import IMAGE, LABEL
from monai_anat.metrics.classification import area_under_pr, area_under_roc

__all__ = ["ClassTask", "accuracy", "one_sided", "rarer_patients", "read_class_task", "score_classes"]

Floats = NDArray[np.float64]

#: missing class numbers from which on the numbers are taken for something else, such as gray levels
_MAX_GAPS = 20
KINDS: dict[str, tuple[Better, str]] = {"auroc": ("higher", "AUROC"), "auprc": ("higher", "average precision")}


@dataclass(frozen=True)
class ClassTask:
    """Names of the C classes and how they relate.

    Attributes:
        names: of the classes or findings.
        one_of_many: whether exactly one class holds for an image, instead of any number of findings.
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
        """Compute the metrics of predictions.

        Args:
            scores: (N, C) predicted probabilities.
            labels: (N, C) labels, NaN if unknown.
            items: the N items.
            bootstrap: over the patients of the items.
            chosen: hyperparameters chosen on the validation images, for the result.
            training: (M, C) labels of the training images.
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

        extra = {"chosen": dict(chosen), "predictions": predictions}
        return Measured(metrics, three_cases(_log_losses(scores, labels), "lower", describe), extra, notes)


def read_class_task(items: Items, class_names: Sequence[str] | None = None) -> tuple[ClassTask, Floats]:
    """Read the classes of a datalist, and its labels as rows of 0, 1 and NaN (unknown).

    Class numbers are exclusive, and -1 is unknown. Lists, names and columns are findings, of which any number may hold.
    Without names, classes are named by their numbers, and labels must be numbers or lists.

    Args:
        items: N items; with names, in every form that :func:`~monai_anat.data.read_class_labels` reads.
        class_names: C names.

    Returns:
        The task, and the labels (N, C).

    Raises:
        DatalistError: if a label is missing, unreadable, or differs in form from the others.
        ValueError: if the number of names does not match the number of classes.

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
    """Read a class number; -1 is unknown, and None is returned for what is no class number."""
    try:
        number = float(label)
    except (TypeError, ValueError):
        return None
    return int(number) if number >= -1 and number.is_integer() else None


def _count_classes(items: Items) -> int:
    """Count the classes: the length of label lists, or the largest class number plus one."""
    lengths, numbers = set(), set()
    for item in items:
        label: Any = item.get(LABEL)
        if isinstance(label, (list, tuple)):
            lengths.add(len(label))
        elif (number := _class_number(label)) is not None:
            lengths.add(0)
            numbers |= {number} - {-1}
        else:
            raise DatalistError(
                f"every item must have a {LABEL!r} that is a class number or a list of 0, 1 and -1 (unknown), got "
                f"{label!r} for {item.get(IMAGE)}; labels of other forms need class_names"
            )
    if len(lengths) > 1:
        raise DatalistError(
            f"all items must have labels of one form, got lengths {sorted(lengths)} (0: a class number)"
        )
    if numbers and max(numbers) >= len(numbers) + _MAX_GAPS:
        raise DatalistError(
            f"class numbers must count from 0, got {sorted(numbers)[:5]}, which would be {max(numbers) + 1} classes; "
            "number them 0, 1, 2, ..."
        )
    return lengths.pop() or max(numbers, default=0) + 1


def score_classes(
    scores: Floats,
    labels: Floats,
    names: Sequence[str],
    bootstrap: PatientBootstrap,
    training: Floats | None = None,
) -> tuple[Metrics, list[str]]:
    """Compute AUROC and average precision of each class and their macro means.

    A class with only positive or only negative images, among test or training images, has no area under a curve. It is
    reported as undefined and excluded from the mean.

    Args:
        scores: (N, C) predicted probabilities.
        labels: (N, C) labels, NaN if unknown.
        names: C names.
        bootstrap: over the patients of the N images.
        training: (M, C) labels of the training images, if known.

    Returns:
        The metrics, and a note for each undefined class.
    """
    metrics: Metrics = {}
    notes = []
    for kind, area in (("auroc", area_under_roc), ("auprc", area_under_pr)):
        better, unit = KINDS[kind]
        # a repeated positive image raises the precision of all above it, so replicates of average precision are biased
        further: dict[str, Any] = {
            "better": better,
            "unit": unit,
            "unbias": kind == "auprc",
            "width": 8 * len(scores),
        }
        defined = []
        for index, name in enumerate(names):
            reason = one_sided(labels[:, index], name)
            if not reason and training is not None:
                reason = one_sided(training[:, index], name, "training")
            if reason:
                metrics[f"{kind}/{name}"] = Metric.undefined(reason, better=better, unit=unit)
                notes += [f"{reason[0].upper()}{reason[1:]}."] if kind == "auroc" else []
                continue
            defined.append(index)
            metrics[f"{kind}/{name}"] = bootstrap.estimate(
                _area_statistic(area, scores[:, [index]], labels[:, [index]], bootstrap),
                **further,
                patients=len(np.unique(bootstrap.patient_of[np.isfinite(labels[:, index])])),
                limiting=rarer_patients(labels[:, index], bootstrap),
            )
        if len(defined) == 1:
            metrics[kind] = metrics[f"{kind}/{names[defined[0]]}"]
        elif defined:
            statistic = _area_statistic(area, scores[:, defined], labels[:, defined], bootstrap)
            metrics[kind] = bootstrap.estimate(statistic, **further)
        else:
            learned = "" if training is None else " and training images"
            why = f"no class has both positive and negative test images{learned}, so there is no area under a curve"
            metrics[kind] = Metric.undefined(why, better=better, unit=unit)
    return metrics, notes


def accuracy(scores: Floats, labels: Floats, bootstrap: PatientBootstrap) -> Metric:
    """Compute the accuracy of exclusive classes over images with a known class.

    It is undefined if all images have the same class.

    Args:
        scores: (N, C) predicted probabilities.
        labels: (N, C) labels, NaN if unknown.
        bootstrap: over the patients of the N images.
    """
    known = np.isfinite(labels).all(axis=1)
    truth = np.nan_to_num(labels).argmax(axis=1)
    if len(np.unique(truth[known])) < 2:
        many = "no test image has a known class" if not known.any() else "all test images are of one class"
        return Metric.undefined(f"{many}, so there is no accuracy", better="higher", unit="share")
    right = np.where(known, scores.argmax(axis=1) == truth, np.nan)
    return bootstrap.row_mean(right, better="higher", unit="share")


def rarer_patients(labels: Floats, bootstrap: PatientBootstrap) -> tuple[int, str]:
    """Count the patients with the rarer of positive and negative labels (N,), which limit the precision.

    Returns:
        Their number and what they are called.
    """
    counts = [len(np.unique(bootstrap.patient_of[labels == value])) for value in (0, 1)]
    return min(counts), f"{('negative', 'positive')[counts[1] < counts[0]]} patients"


def one_sided(labels: Floats, name: str, split: str = "test") -> str:
    """Explain why a class has no area under a curve.

    Args:
        labels: (N,) labels of the class, NaN if unknown.
        name: name of the class.
        split: name of the split.

    Returns:
        The reason, or "" if the labels contain both 0 and 1.
    """
    known = labels[np.isfinite(labels)]
    if not len(known):
        return f"{name} has no area under a curve: no {split} image has a known label"
    if known.min() != known.max():
        return ""
    what = "negative" if known[0] == 0 else "positive"
    return f"{name} has no area under a curve: all {len(known)} {split} images with a known label are {what}"


def _area_statistic(
    area: Callable[[Floats, Floats, Floats], Floats], scores: Floats, labels: Floats, bootstrap: PatientBootstrap
) -> Callable[[Floats], Floats]:
    """Mean area over several classes as a function of the patients' weights."""

    def statistic(weights: Floats) -> Floats:
        rows = weights[:, bootstrap.patient_of]
        areas = []
        for index in range(scores.shape[1]):
            known = np.isfinite(labels[:, index])
            areas.append(area(labels[known, index], scores[known, index], rows[:, known]))
        return nan_mean(areas, axis=0)

    return statistic


def _log_losses(scores: Floats, labels: Floats) -> Floats:
    """Mean log loss of each image over its known labels, NaN if none is known."""
    losses = -np.log(np.clip(np.where(labels == 1, scores, 1 - scores), 1e-7, 1))
    return nan_mean(np.where(np.isfinite(labels), losses, np.nan), axis=1)
