"""Weighted areas under the ROC and precision-recall curves, for many bootstrap resamples at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["area_under_pr", "area_under_roc"]

Floats = NDArray[np.float64]


def area_under_roc(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Compute the area under the ROC curve; ties count half.

    Args:
        labels: (N,) labels 0 and 1.
        scores: (N,) scores, larger for positives.
        weights: (R, N), weights of the samples in each of R resamples; a single set of ones by default.

    Returns:
        (R,) areas; NaN for a resample without positives or without negatives.

    Raises:
        ValueError: if the shapes differ or a label is not 0 or 1.

    >>> area_under_roc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.8]).tolist()
    [0.875]
    """
    positive, negative, total = _by_score(labels, scores, weights)
    below = np.cumsum(negative, axis=1) - negative
    area = (positive * (below + negative / 2)).sum(axis=1)
    return _over(area, total[:, 0] * total[:, 1])


def area_under_pr(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None = None) -> Floats:
    """Compute the average precision: the precision at each score, weighted by the increase in recall.

    Args:
        labels: (N,) labels 0 and 1.
        scores: (N,) scores, larger for positives.
        weights: (R, N), weights of the samples in each of R resamples; a single set of ones by default.

    Returns:
        (R,) areas; NaN for a resample without positives or without negatives.

    Raises:
        ValueError: if the shapes differ or a label is not 0 or 1.

    >>> area_under_pr([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]).round(4).tolist()
    [0.8333]
    """
    positive, negative, total = _by_score(labels, scores, weights)
    found = np.cumsum(positive[:, ::-1], axis=1)
    called = found + np.cumsum(negative[:, ::-1], axis=1)
    precision = found / np.where(called > 0, called, 1)
    area = (precision * positive[:, ::-1]).sum(axis=1)
    area = np.where(total[:, 0] > 0, area / np.where(total[:, 0] > 0, total[:, 0], 1), np.nan)
    return np.where(total[:, 1] > 0, area, np.nan)


def _by_score(labels: ArrayLike, scores: ArrayLike, weights: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """Sum the weights of positives and negatives at each distinct score, ascending: (R, T) each, and totals (R, 2)."""
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1 or not np.isin(truth, (0, 1)).all():
        raise ValueError(
            f"labels must be (N,) with values 0 and 1 and scores (N,), got shapes {truth.shape} and {values.shape}; "
            "drop uncertain labels first"
        )
    weight = np.ones((1, len(values))) if weights is None else np.asarray(weights, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(values[order]) > 0])
    sums = [np.add.reduceat((weight * (truth == label))[:, order], starts, axis=1) for label in (1, 0)]
    return sums[0], sums[1], np.stack([part.sum(axis=1) for part in sums], axis=1)


def _over(part: Floats, whole: Floats) -> Floats:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), np.nan)
