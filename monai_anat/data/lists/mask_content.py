"""Detection of masks by their gray values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "FEW_GRAY_VALUES",
    "looks_like_mask",
]

#: a picture with fewer distinct values than this is a mask if it consists of flat areas
FEW_GRAY_VALUES = 32
_FEWEST = 5  # below this number of values, no picture is a radiograph
_FLAT = 0.92  # share of equal neighbors in masks; radiographs of 3 bits have less
_LINES = 256  # rows and columns whose neighbors are compared
_SAMPLES = 65_536  # pixels that are looked at
_FIRST = 4096  # of them, those that are looked at first
_LEVELS = 256
_CLUSTER = 6  # levels on either side of a peak that lossy compression of a flat area reaches
_APART = 24  # levels between two classes of a mask at least
_MOST = 0.9  # share of the pixels of a compressed mask near its class values; radiographs stay below 0.4
_EXACT = 0.8  # share of the pixels at exactly these values: flat areas with noise have less
_REST = 0.6  # share near other class values of the pixels that are not background: a black border is not enough
_PEAKS = 4


def looks_like_mask(pixels: NDArray[Any]) -> bool:
    """Return whether a picture has the gray values of a mask and not those of a radiograph.

    Two signs count: fewer than ``FEW_GRAY_VALUES`` distinct values in flat areas, or nearly all pixels at or close to
    two to four levels that lie far apart, as in a mask that was saved as JPEG. A blank picture is no mask.

    Args:
        pixels: picture (H, W), in any unit.

    >>> halves = np.zeros((64, 64)); halves[:, 32:] = 255
    >>> looks_like_mask(halves), looks_like_mask(np.random.default_rng(0).random((64, 64)))
    (True, False)
    """
    flat = pixels.ravel()
    # an odd stride is no divisor of common widths, so that no column is favored
    sample = flat[:: max(1, flat.size // _SAMPLES) | 1].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    # a part of the sample is enough for almost all radiographs
    distinct = len(np.unique(sample[:: max(1, len(sample) // _FIRST)]))
    distinct = distinct if distinct >= FEW_GRAY_VALUES else len(np.unique(sample))
    if distinct < 2:
        return False
    if distinct < _FEWEST or (distinct < FEW_GRAY_VALUES and _is_flat(pixels)):
        return True
    return _is_compressed_mask(sample)


def _is_flat(pixels: NDArray[Any]) -> bool:
    """Return whether nearly all neighbors along rows and along columns are equal."""
    rows = pixels[:: max(1, pixels.shape[0] // _LINES)]
    columns = pixels[:, :: max(1, pixels.shape[1] // _LINES)]
    along = float((rows[:, 1:] == rows[:, :-1]).mean()), float((columns[1:] == columns[:-1]).mean())
    return min(along) >= _FLAT


def _is_compressed_mask(sample: NDArray[np.float64]) -> bool:
    low, high = sample.min(), sample.max()
    levels = ((sample - low) * ((_LEVELS - 1) / (high - low)) + 0.5).astype(np.int64)
    counts = np.bincount(levels, minlength=_LEVELS)
    taken: list[int] = []
    weights: list[int] = []
    exact = 0
    for _ in range(_PEAKS):
        peak = int(counts.argmax())
        near = slice(max(0, peak - _CLUSTER), peak + _CLUSTER + 1)
        weight = int(counts[near].sum())
        if weight < 0.005 * len(sample) or any(abs(peak - other) < _APART for other in taken):
            break
        taken.append(peak)
        weights.append(weight)
        exact += int(counts[peak])
        counts[near] = 0
    if len(taken) < 2 or sum(weights) < _MOST * len(sample) or exact < _EXACT * len(sample):
        return False
    return sum(weights[1:]) >= _REST * (len(sample) - weights[0])
