"""Square and oblong windows of a radiograph, in pixels of the stored image."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["cut_windows", "split_window", "window_at"]

Box = NDArray[np.int64]


def window_at(center: ArrayLike, side: int, shape: tuple[int, int]) -> Box:
    """A square window around a point; one that would cross the border is shifted inside, never padded.

    Args:
        center: row and column in pixels.
        side: of the window in pixels; at most the shorter side of the image.
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
    """Tile a window by ``rows`` x ``columns`` parts that share no pixel and leave none out.

    Args:
        box: (4,) top, left, height, width.
        rows: parts from top to bottom.
        columns: parts from left to right.

    Returns:
        (rows * columns, 4) boxes, row by row.

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
    """Cut windows out and resize each to a square, as a network sees them (bilinear, without aliasing).

    Args:
        pixels: (H, W) the image.
        boxes: (W, 4) top, left, height, width, inside the image.
        size: side of the result in pixels.

    Returns:
        (W, 1, size, size) float32.

    Raises:
        ValueError: if a box reaches outside the image.

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
