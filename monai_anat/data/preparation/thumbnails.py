"""Thumbnails by which near duplicates are found."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "THUMBNAIL",
    "thumbnail_of",
]

#: side of a thumbnail in pixels
THUMBNAIL = 16


def thumbnail_of(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Shrink a radiograph to the thumbnail that is compared, by area.

    Args:
        pixels: picture (H, W), uint8 or float in [0, 1].

    Returns:
        uint8 (16, 16).

    >>> thumbnail_of(np.full((32, 48), 0.2, np.float32)).max()
    np.uint8(51)
    """
    values = pixels if pixels.dtype == np.uint8 else np.ascontiguousarray(pixels, dtype=np.float32) * 255
    small = Image.fromarray(values).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small).round().clip(0, 255).astype(np.uint8)
