"""Quadrants of views and windows of their cells."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from monai_anat.transforms.geometry import per_axis, split_cells

__all__ = ["crop_windows", "split_quadrants", "window_cells"]


def split_quadrants(img: Tensor, spatial_dims: int) -> Tensor:
    """Split an image into quadrants, or a volume into octants.

    The first axis varies fastest: top left, bottom left, top right, bottom right. This is the order of Lamps
    (arXiv:2512.22872), on which its composition and decomposition heads depend.

    Args:
        img: images (..., C, H, W[, D]) with even sides.
        spatial_dims: 2 or 3.

    Returns:
        (..., 2^spatial_dims, C, H/2, W/2[, D/2]).

    Raises:
        ValueError: if a side is odd.

    >>> split_quadrants(torch.tensor([[[0, 1], [2, 3]]]), spatial_dims=2).flatten()
    tensor([0, 2, 1, 3])
    """
    sides = tuple(img.shape[-spatial_dims:])
    if any(side % 2 for side in sides):
        raise ValueError(f"an image with quadrants must have even sides, got {sides}; take an even number of cells")
    parts = split_cells(img, [side // 2 for side in sides], spatial_dims)  # row-major
    order = np.arange(2**spatial_dims).reshape((2,) * spatial_dims).transpose().reshape(-1)
    return parts.index_select(img.ndim - spatial_dims - 1, torch.from_numpy(order).to(img.device))


def window_cells(offsets: Tensor, window_size: int | Sequence[int], grid_size: Sequence[int]) -> Tensor:
    """Compute the indices of the cells of a window on its grid.

    Args:
        offsets: (B, d) int64, first cell (row, column[, depth]) of each window.
        window_size: number of cells per side of a window.
        grid_size: number of cells per side of the grid.

    Returns:
        (B, K) int64 row-major indices on the grid, in the row-major order of the window.

    >>> window_cells(torch.tensor([[1, 0]]), 2, (3, 3))
    tensor([[3, 4, 6, 7]])
    """
    dims = len(grid_size)
    index = offsets.new_zeros((len(offsets), *[1] * dims))
    for axis, side in enumerate(per_axis(window_size, dims, "window_size")):
        index = index * grid_size[axis] + _along(offsets[:, axis], side, axis, dims)
    return index.flatten(1)


def crop_windows(
    img: Tensor, offsets: Tensor, window_size: int | Sequence[int], cell_size: int | Sequence[int]
) -> Tensor:
    """Crop a window of whole cells from each image of a batch, in one gather.

    Args:
        img: images (B, C, H, W[, D]).
        offsets: (B, d) int64, first cell (row, column[, depth]) of each window.
        window_size: number of cells per side of a window.
        cell_size: side of a cell in pixels.

    Returns:
        (B, C, h, w[, d]) of ``window_size * cell_size`` pixels.

    >>> crop_windows(torch.arange(9).reshape(1, 1, 3, 3), torch.tensor([[1, 0]]), 2, 1).flatten()
    tensor([3, 4, 6, 7])
    """
    dims = img.ndim - 2
    window, cell = per_axis(window_size, dims, "window_size"), per_axis(cell_size, dims, "cell_size")
    sample = torch.arange(len(img), device=img.device).reshape(-1, *[1] * dims)
    pixels = [_along(offsets[:, a] * cell[a], window[a] * cell[a], a, dims) for a in range(dims)]
    return img.movedim(1, -1)[(sample, *pixels)].movedim(-1, 1)


def _along(start: Tensor, length: int, axis: int, dims: int) -> Tensor:
    """Positions start .. start + length - 1 of each sample, (B, 1, .., length, .., 1)."""
    positions = start[:, None] + torch.arange(length, device=start.device)  # (B, length)
    return positions.reshape(len(start), *[length if a == axis else 1 for a in range(dims)])
