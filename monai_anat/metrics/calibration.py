"""Calibration of predicted probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Reliability", "reliability"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    """Predicted and observed frequencies of positives per bin.

    Attributes:
        predicted: (K,) mean probability of each non-empty bin, ascending.
        observed: (K,) share of positives in each bin.
        counts: (K,) number of images in each bin.
        error: expected calibration error, the mean over images of |predicted - observed| of their bin.
    """

    predicted: Floats
    observed: Floats
    counts: NDArray[np.int64]
    error: float


def reliability(labels: ArrayLike, probabilities: ArrayLike, bins: int = 10) -> Reliability:
    """Compute a reliability curve and the expected calibration error.

    Guo et al., arXiv:1706.04599, equations 2 and 3. All bins hold the same number of images, since bins of equal width
    are mostly empty for rare findings.

    Args:
        labels: (N,) labels 0 and 1; NaN is ignored.
        probabilities: (N,) probabilities in [0, 1].
        bins: largest number of bins.

    Returns:
        The curve, one entry per non-empty bin.

    Raises:
        ValueError: if no label is known, ``bins`` is below 1, or a number is out of range.

    >>> curve = reliability([0, 0, 1, 1], [0.1, 0.1, 0.6, 1.0], bins=2)
    >>> curve.predicted.round(3).tolist(), curve.observed.tolist(), round(curve.error, 3)
    ([0.1, 0.8], [0.0, 1.0], 0.15)
    """
    truth, values = np.asarray(labels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    known = np.isfinite(truth)
    truth, values = truth[known], values[known]
    if not len(truth) or bins < 1 or not np.isin(truth, (0, 1)).all() or values.min() < 0 or values.max() > 1:
        raise ValueError(
            "labels must be 0, 1 or NaN and not all NaN, probabilities in [0, 1] and bins at least 1, got "
            f"{len(truth)} known labels and bins={bins}; apply a sigmoid or softmax to logits first"
        )
    # equal probabilities share a bin, since bins end between different values
    edges = np.unique(np.quantile(values, np.linspace(0, 1, bins + 1)[1:-1], method="inverted_cdf"))
    bin_of = np.searchsorted(edges, values, side="left")
    counts = np.bincount(bin_of)
    full = counts > 0
    predicted, observed = (np.bincount(bin_of, part)[full] / counts[full] for part in (values, truth))
    error = float((counts[full] * np.abs(predicted - observed)).sum() / counts.sum())
    return Reliability(predicted, observed, counts[full].astype(np.int64), error)
