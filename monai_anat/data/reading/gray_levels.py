"""Gray values: mapping of stored values to [0, 1], and luminance of colors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.reading.decoded import UnreadableError

__all__ = [
    "scale_by_percentiles",
    "scale_stored",
    "to_gray",
]

_SAMPLES = 250_000  # number of pixels for the percentiles
_DEPTHS = (8, 10, 12, 14, 16)
_ROUNDING = 1e-4  # error of 0 and 1 after a slope and an intercept


def scale_by_percentiles(
    values: NDArray[Any], valid: NDArray[np.bool_] | None = None, low: float = 0.5, high: float = 99.5
) -> tuple[NDArray[np.float32], str]:
    """Map values linearly to [0, 1] between two percentiles.

    Args:
        values: (H, W).
        valid: (H, W) mask of pixels that hold an image. The percentiles ignore all others, such as padding.
        low: percentile that becomes 0.
        high: percentile that becomes 1.

    Returns:
        float32 (H, W), and a description of the mapping.

    Raises:
        UnreadableError: if no pixel is finite.

    >>> scale_by_percentiles(np.arange(1001.0).reshape(7, 143))[1]
    'linear from 5..995 (percentiles 0.5 and 99.5)'
    """
    sample = values[valid] if valid is not None and valid.any() else values.ravel()
    # an odd stride, so that no column of a common width dominates the sample
    sample = sample[:: max(1, sample.size // _SAMPLES) | 1].astype(np.float64)
    sample = sample[np.isfinite(sample)]
    if sample.size == 0:
        raise UnreadableError("no pixel has a finite value")
    bottom, top = np.percentile(sample, [low, high])
    if top <= bottom:
        bottom, top = float(sample.min()), float(sample.max())
    scale = 1 / (top - bottom) if top > bottom else 0.0
    mapped = np.clip((np.nan_to_num(values.astype(np.float32), nan=bottom) - bottom) * scale, 0, 1)
    return mapped.astype(np.float32), f"linear from {bottom:g}..{top:g} (percentiles {low:g} and {high:g})"


def scale_stored(values: NDArray[Any]) -> tuple[NDArray[np.float32], str]:
    """Map the values of a file without a display window to [0, 1]: integers by bit depth, others by percentiles.

    8-bit values are divided by 255. Wider integers are divided by the smallest of 2^10-1, 2^12-1, 2^14-1 and 2^16-1
    that is not below the largest value, because 12-bit images are often stored in 16 bits. Floats in [0, 1] stay as
    they are. Floats that hold integers are treated as integers.

    Args:
        values: (H, W).

    Returns:
        float32 (H, W), and a description of the mapping.

    >>> scale_stored(np.array([[0, 255]], dtype=np.uint8))
    (array([[0., 1.]], dtype=float32), 'linear from 0..255')
    >>> scale_stored(np.array([[0, 4000]], dtype=np.uint16))[1]
    'linear from 0..4095'
    """
    if values.dtype == np.uint8:
        return values.astype(np.float32) * np.float32(1 / 255), "linear from 0..255"
    if values.dtype == np.bool_:
        return values.astype(np.float32), "linear from 0..1"
    smallest, largest = float(values.min()), float(values.max())
    whole = np.issubdtype(values.dtype, np.integer)
    if not whole and smallest >= -_ROUNDING and largest <= 1 + _ROUNDING:
        return np.clip(values.astype(np.float32), 0, 1), "kept, already in 0..1"
    if not whole and np.isfinite(smallest) and np.isfinite(largest):
        whole = bool(np.all(values == np.rint(values)))
    if not whole or smallest < 0:
        return scale_by_percentiles(values)
    if largest > 65535:
        return scale_by_percentiles(values)
    top = next(2**depth - 1 for depth in _DEPTHS if largest < 2**depth)
    return values.astype(np.float32) * np.float32(1 / top), f"linear from 0..{top}"


def to_gray(values: NDArray[Any]) -> NDArray[Any]:
    """Convert colors to gray by luminance (ITU-R BT.601). Three equal channels stay exact.

    Args:
        values: (H, W, C) with C = 1, 2 (gray and alpha), 3 (color) or 4 (color and alpha). Alpha is dropped.

    >>> to_gray(np.full((1, 1, 3), 7, dtype=np.uint8)).tolist()
    [[7]]
    """
    if values.shape[-1] < 3:
        return values[..., 0]
    red, green, blue = values[..., 0], values[..., 1], values[..., 2]
    if np.array_equal(red, green) and np.array_equal(red, blue):
        return red
    gray = 0.299 * red.astype(np.float32) + 0.587 * green + 0.114 * blue
    return np.rint(gray).astype(values.dtype) if np.issubdtype(values.dtype, np.integer) else gray
