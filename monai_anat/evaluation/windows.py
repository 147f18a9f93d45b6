"""Windows of a radiograph, in pixels of the stored image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.keys import IMAGE

__all__ = ["cut_windows", "draw_windows", "split_window", "window_at"]

Box = NDArray[np.int64]


def window_at(center: ArrayLike, side: int, shape: tuple[int, int]) -> Box:
    """Place a square window around a point. A window that would cross the border is shifted inside, not padded.

    Args:
        center: row and column in pixels.
        side: side of the window in pixels, at most the shorter side of the image.
        shape: height and width of the image.

    Returns:
        (4,) top, left, height, width.

    Raises:
        ValueError: if the window is larger than the image.

    >>> window_at((2.0, 50.0), 10, (40, 60)).tolist()
    [0, 45, 10, 10]
    """
    if not 1 <= side <= min(shape):
        raise ValueError(f"side must be between 1 and the image's shorter side {min(shape)}, got {side}")
    corner = np.floor(np.asarray(center, dtype=float) + 0.5 - side / 2)
    top, left = np.clip(corner, 0, np.array(shape) - side).astype(int)
    return np.array([top, left, side, side])


def split_window(box: ArrayLike, rows: int, columns: int) -> NDArray[np.int64]:
    """Tile a window into ``rows`` x ``columns`` disjoint parts.

    Args:
        box: (4,) top, left, height, width.
        rows: number of parts from top to bottom.
        columns: number of parts from left to right.

    Returns:
        (rows * columns, 4) boxes in row-major order.

    >>> split_window([0, 0, 4, 6], 1, 2).tolist()
    [[0, 0, 4, 3], [0, 3, 4, 3]]
    """
    top, left, height, width = (int(value) for value in np.asarray(box))
    edges = [np.linspace(0, size, parts + 1).round().astype(int) for size, parts in ((height, rows), (width, columns))]
    return np.array(
        [
            [top + edges[0][i], left + edges[1][j], edges[0][i + 1] - edges[0][i], edges[1][j + 1] - edges[1][j]]
            for i in range(rows)
            for j in range(columns)
        ]
    )


def cut_windows(pixels: ArrayLike, boxes: ArrayLike, size: int) -> Tensor:
    """Crop windows and resize each to a square (bilinear with anti-aliasing).

    Args:
        pixels: (H, W) image.
        boxes: (W, 4) top, left, height, width, inside the image.
        size: side of the output in pixels.

    Returns:
        (W, 1, size, size) float32.

    Raises:
        ValueError: if a box reaches beyond the image.

    >>> cut_windows(np.eye(8), [[0, 0, 4, 4]], 4)[0, 0].diagonal().tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    image = torch.as_tensor(np.asarray(pixels, dtype=np.float32))
    windows = []
    for top, left, height, width in np.asarray(boxes).tolist():
        inside = top >= 0 and left >= 0 and top + height <= image.shape[0] and left + width <= image.shape[1]
        if not inside or min(height, width) < 1:
            raise ValueError(
                f"boxes must lie inside the image {tuple(image.shape)}, got top {top}, left {left}, height {height}, "
                f"width {width}; place them by window_at"
            )
        part = image[None, None, top : top + height, left : left + width]
        windows.append(F.interpolate(part, size=(size, size), mode="bilinear", antialias=True, align_corners=False))
    return torch.cat(windows)


def draw_windows(items: Sequence[Mapping[str, Any]], shares: NDArray[np.float64], seed: int) -> NDArray[np.int64]:
    """Draw square windows at random places.

    Sides are multiples of 12 pixels, so that halves, thirds and quarters have equal sizes.

    Args:
        items: N datalist items.
        shares: (N, W) sides as fractions of the shorter side of each image.
        seed: random seed of the places.

    Returns:
        (N, W, 4) top, left, height, width.
    """
    generator = np.random.default_rng(seed)
    boxes = []
    for item, wanted in zip(items, shares, strict=True):
        shape = read_radiograph(item[IMAGE]).pixels.shape
        size = (int(shape[0]), int(shape[1]))
        for share in wanted:
            side = max(12, round(share * min(size) / 12) * 12) if min(size) >= 12 else min(size)
            center = generator.uniform(side / 2, np.array(size) - side / 2 + 1e-9)
            boxes.append(window_at(center - 0.5, min(side, min(size)), size))
    return np.array(boxes).reshape(*shares.shape, 4)
