"""Cosines and centering of feature vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["CollapsedFeaturesError", "centered", "check_spread", "cosines", "unit"]

#: relative difference below which features count as equal
_EQUAL = 1e-5


class CollapsedFeaturesError(ValueError):
    """The features of all images or cells are equal, so no score is defined."""


def check_spread(difference: float, largest: float) -> None:
    """Refuse features that are all equal.

    Args:
        difference: largest deviation from the mean feature.
        largest: largest absolute feature.

    Raises:
        CollapsedFeaturesError: if the deviation is at most 1e-5 of the largest feature.
    """
    if difference <= _EQUAL * largest:
        raise CollapsedFeaturesError(
            "the encoder gives the same features for all images and places (collapsed), so there is nothing to score"
        )


def centered(features: NDArray[Any], axis: int | tuple[int, ...] = 0) -> NDArray[np.float64]:
    """Subtract the mean feature and scale each feature to unit length.

    Args:
        features: (..., D).
        axis: axes over which the mean is taken.

    Raises:
        CollapsedFeaturesError: if all features are equal.
    """
    values = np.asarray(features, dtype=np.float64)
    difference = values - values.mean(axis=axis, keepdims=True)
    check_spread(float(np.abs(difference).max()), float(np.abs(values).max()))
    return unit(difference)


def unit(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale vectors to unit length along the last axis. Zero vectors stay zero."""
    length = np.linalg.norm(values, axis=-1, keepdims=True)
    return values / np.where(length > 0, length, 1)


def cosines(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the cosine similarity along the last axis."""
    cosine: NDArray[np.float64] = (unit(first) * unit(second)).sum(axis=-1)
    return cosine
