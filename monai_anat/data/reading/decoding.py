"""What the decoders of the several file kinds share: their result, their error, and the mapping of gray values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Decoded",
    "UnreadableError",
    "check_size",
    "is_plausible_aspect",
    "scale_by_percentiles",
    "scale_stored",
    "to_gray",
]

#: more pixels than any radiograph has; a header that says more is refused before memory is asked for
MAX_PIXELS = 100_000_000
_SAMPLES = 250_000  # pixels that percentiles are taken of
_DEPTHS = (8, 10, 12, 14, 16)
_ROUNDING = 1e-4  # what is left of 0 and 1 after a slope and an intercept
_LONGEST_PIXEL = 8.0


class UnreadableError(Exception):
    """Why a file cannot be read: ``reason`` holds nothing of its name or content, ``detail`` may."""

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason)


@dataclass(frozen=True)
class Decoded:
    """A decoded picture, and beside it the patient's id, which must not get into ``info``."""

    pixels: NDArray[Any]
    spacing: tuple[float, float] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    patient: str | None = None


def check_size(height: int, width: int) -> None:
    """Refuse an image before it is decoded if it cannot be a radiograph.

    Args:
        height: rows.
        width: columns.

    Raises:
        UnreadableError: it has no pixels, or absurdly many.
    """
    if height < 1 or width < 1:
        raise UnreadableError(f"the image has no pixels: {height} rows and {width} columns")
    if height * width > MAX_PIXELS:
        raise UnreadableError(
            f"the image is absurdly large: {height} x {width} pixels, at most {MAX_PIXELS} in all are read"
        )


def is_plausible_aspect(height: float, width: float) -> bool:
    """Say whether a pixel may have such a form; a header that stretches an image without end is wrong.

    Args:
        height: of a pixel, in any unit.
        width: of a pixel, in the same unit.

    >>> is_plausible_aspect(0.2, 0.1), is_plausible_aspect(1000, 0.1), is_plausible_aspect(0, 0)
    (True, False, False)
    """
    if not (np.isfinite(height) and np.isfinite(width) and height > 0 and width > 0):
        return False
    return bool(1 / _LONGEST_PIXEL <= height / width <= _LONGEST_PIXEL)


def scale_by_percentiles(
    values: NDArray[Any], valid: NDArray[np.bool_] | None = None, low: float = 0.5, high: float = 99.5
) -> tuple[NDArray[np.float32], str]:
    """Map values to [0, 1] so that all but the outermost half percents are told apart.

    Args:
        values: (H, W).
        valid: (H, W) where the values mean something; padding is left out of the percentiles.
        low: percentile that becomes 0.
        high: percentile that becomes 1.

    Returns:
        float32 (H, W), and the mapping in words.

    >>> scale_by_percentiles(np.arange(1001.0).reshape(7, 143))[1]
    'linear from 5..995 (percentiles 0.5 and 99.5)'
    """
    sample = values[valid] if valid is not None and valid.any() else values.ravel()
    # a stride that is no divisor of common widths, so that no column is favored
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
    """Map the values of a file without a window to [0, 1]: whole numbers by their bit depth, others by percentiles.

    8-bit values are divided by 255. Wider ones are divided by the smallest of 2^10-1, 2^12-1, 2^14-1 and 2^16-1 that
    holds the largest value, because 12-bit pictures are often stored in 16 bits. Floats in [0, 1] are kept. Whole
    numbers stored as floats count as whole numbers.

    Args:
        values: (H, W).

    Returns:
        float32 (H, W), and the mapping in words.

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
    """Turn a color picture (H, W, 3) into gray by luminance (ITU-R BT.601); three equal channels stay exact.

    Args:
        values: (H, W, C) with C = 1, 2 (gray and alpha), 3 or 4 (color and alpha); alpha is dropped.

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
