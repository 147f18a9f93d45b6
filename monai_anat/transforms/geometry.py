"""Cells of an image grid, and matching of cells between two crops.

All functions are deterministic and use (row, column[, depth]) order, row-major.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from types import EllipsisType

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = [
    "box_slices",
    "crop_slices",
    "grid_shape",
    "join_cells",
    "match_cells",
    "per_axis",
    "required_shape",
    "split_cells",
]


def per_axis(value: int | Sequence[int], spatial_dims: int, name: str, minimum: int = 1) -> tuple[int, ...]:
    """Expand one number to all axes, or check one number per axis.

    Args:
        value: one integer for all axes, or one per axis.
        spatial_dims: number of axes.
        name: name of the value in error messages.
        minimum: smallest allowed value.

    Returns:
        ``spatial_dims`` integers.

    Raises:
        TypeError: if a value is not an integer.
        ValueError: if the number of values is wrong, or a value is below the minimum.

    >>> per_axis(14, 2, "grid_size")
    (14, 14)
    """
    raw = list(value) if isinstance(value, Iterable) else [value] * spatial_dims
    numbers = tuple(int(number) for number in raw)
    if any(number != given for number, given in zip(numbers, raw, strict=True)):
        raise TypeError(f"{name} must be whole numbers, got {value}; count in whole cells or pixels")
    if len(numbers) != spatial_dims:
        raise ValueError(f"{name} must have one value or {spatial_dims} (one per axis), got {value}")
    if min(numbers) < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")
    return numbers


def match_cells(offset_1: Sequence[int], offset_2: Sequence[int], grid_size: int | Sequence[int]) -> Tensor:
    """Map each cell of crop 1 to its matching cell in crop 2.

    Cell i of crop 1 lies at ``offset_1 + i`` on the shared grid. This is cell ``i + offset_1 - offset_2`` of crop 2 if
    it is inside that crop. The map is exact, since both crops consist of whole cells of one grid. PEAC, section 3
    (arXiv:2312.00335).

    Differs from the released code, which exchanges rows and columns: 14,068 of its 96,100 pairs are correct.

    Args:
        offset_1: first cell (row, column[, depth]) of crop 1 on the shared grid.
        offset_2: first cell of crop 2.
        grid_size: number of cells per side of a crop, one number or one per axis.

    Returns:
        int64 (N,), N = product of ``grid_size``, row-major: index in crop 2 of the cell that shows the same anatomy as
        cell i of crop 1, or -1 if there is none.

    Raises:
        ValueError: if the offsets or the grid size have different numbers of axes.

    >>> match_cells((0, 0), (0, 1), grid_size=2)
    tensor([-1,  0, -1,  2])
    """
    if len(offset_1) != len(offset_2) or len(offset_1) == 0:
        raise ValueError(
            f"offset_1 and offset_2 must have one value per axis, got {tuple(offset_1)} and {tuple(offset_2)}; "
            "give (row, column) or (row, column, depth) for both"
        )
    grid = per_axis(grid_size, len(offset_1), "grid_size")
    cells = math.prod(grid)
    index = np.zeros((), dtype=np.int64)
    stride = cells
    for first, second, side in zip(offset_1, offset_2, grid, strict=True):
        stride //= side
        position = np.arange(side) + (int(first) - int(second))
        inside = (position >= 0) & (position < side)
        # a cell outside on any axis makes the sum negative, whatever the other axes add
        index = index[..., None] + np.where(inside, position * stride, -cells)
    return torch.from_numpy(np.maximum(index.reshape(-1), -1))  # (N,)


def grid_shape(
    spatial_shape: Sequence[int], cell_size: int | Sequence[int], name: str = "cell_size"
) -> tuple[int, ...]:
    """Compute the number of cells of an image per axis.

    Args:
        spatial_shape: shape of the image without channels, in pixels.
        cell_size: side of a cell in pixels, one number or one per axis.
        name: name of the side in error messages.

    Returns:
        Cells per axis.

    Raises:
        ValueError: if the image does not consist of whole cells.

    >>> grid_shape((448, 448), 32)
    (14, 14)
    """
    cell = per_axis(cell_size, len(spatial_shape), name)
    if any(side % part for side, part in zip(spatial_shape, cell, strict=True)):
        nearest = tuple(max(part, round(side / part) * part) for side, part in zip(spatial_shape, cell, strict=True))
        raise ValueError(
            f"spatial shape must be a multiple of {name}, got {tuple(spatial_shape)} and {name}={cell}; "
            f"nearest is {nearest}"
        )
    return tuple(side // part for side, part in zip(spatial_shape, cell, strict=True))


def required_shape(
    grid_size: int | Sequence[int], cell_size: int | Sequence[int], margin: int | Sequence[int], spatial_dims: int
) -> tuple[int, ...]:
    """Compute the smallest image for two crops that are at most ``margin`` cells apart.

    Args:
        grid_size: number of cells per side of a crop.
        cell_size: side of a cell in pixels.
        margin: largest offset between the crops in cells.
        spatial_dims: number of axes.

    Returns:
        Smallest shape of the image without channels.

    >>> required_shape(14, 32, 4, spatial_dims=2)
    (576, 576)
    """
    grid = per_axis(grid_size, spatial_dims, "grid_size")
    cell = per_axis(cell_size, spatial_dims, "cell_size")
    spare = per_axis(margin, spatial_dims, "margin", minimum=0)
    return tuple((g + m) * c for g, m, c in zip(grid, spare, cell, strict=True))


def crop_slices(
    offset: Sequence[int],
    grid_size: int | Sequence[int],
    cell_size: int | Sequence[int],
    origin: int | Sequence[int] = 0,
) -> tuple[slice, ...]:
    """Compute the slices of a crop of whole cells.

    Args:
        offset: first cell (row, column[, depth]) of the crop on the grid.
        grid_size: number of cells per side of the crop.
        cell_size: side of a cell in pixels.
        origin: first pixel of the grid, one number or one per axis.

    Returns:
        One slice per axis, in pixels.

    >>> crop_slices((1, 0), grid_size=2, cell_size=8, origin=(3, 0))
    (slice(11, 27, None), slice(0, 16, None))
    """
    dims = len(offset)
    grid, cell = per_axis(grid_size, dims, "grid_size"), per_axis(cell_size, dims, "cell_size")
    start = per_axis(origin, dims, "origin", minimum=0)
    first = per_axis(offset, dims, "offset", minimum=0)
    corner = tuple(s + f * c for s, f, c in zip(start, first, cell, strict=True))
    return tuple(slice(at, at + g * c) for at, g, c in zip(corner, grid, cell, strict=True))


def box_slices(box: npt.NDArray[np.int64]) -> tuple[EllipsisType | slice, ...]:
    """Convert a box to an index into the last axes of an image.

    Args:
        box: (2, d), first corner and sides in pixels.

    Returns:
        An ellipsis for the leading axes, then one slice per axis.

    >>> box_slices(np.array([[1, 2], [3, 4]]))
    (Ellipsis, slice(1, 4, None), slice(2, 6, None))
    """
    return ..., *(slice(start, start + side) for start, side in zip(*box.tolist(), strict=True))


def split_cells(img: Tensor, cell_size: int | Sequence[int], spatial_dims: int) -> Tensor:
    """Split images into cells.

    Args:
        img: images (..., C, H, W[, D]).
        cell_size: side of a cell in pixels.
        spatial_dims: 2 or 3.

    Returns:
        (..., N, C, h, w[, d]), cells in row-major order.

    Raises:
        ValueError: if the image does not consist of whole cells.

    >>> split_cells(torch.arange(16).reshape(1, 4, 4), 2, spatial_dims=2)[1, 0]
    tensor([[2, 3],
            [6, 7]])
    """
    spatial = tuple(img.shape[-spatial_dims:])
    cell = per_axis(cell_size, spatial_dims, "cell_size")
    grid = grid_shape(spatial, cell)
    lead, channels = img.shape[: -spatial_dims - 1], img.shape[-spatial_dims - 1]
    mixed = [number for pair in zip(grid, cell, strict=True) for number in pair]
    batch = len(lead)
    blocks = img.reshape(*lead, channels, *mixed)  # (..., C, gh, h, gw, w[, gd, d])
    grid_axes = [batch + 1 + 2 * axis for axis in range(spatial_dims)]
    order = [*range(batch), *grid_axes, batch, *(axis + 1 for axis in grid_axes)]
    return blocks.permute(order).reshape(*lead, math.prod(grid), channels, *cell)  # (..., N, C, h, w[, d])


def join_cells(cells: Tensor, grid_size: Sequence[int]) -> Tensor:
    """Join cells to images, the inverse of :func:`split_cells`.

    Args:
        cells: cells (..., N, C, h, w[, d]), row-major.
        grid_size: number of cells per axis.

    Returns:
        (..., C, H, W[, D]).

    >>> image = torch.arange(16).reshape(1, 4, 4)
    >>> torch.equal(join_cells(split_cells(image, 2, spatial_dims=2), (2, 2)), image)
    True
    """
    dims = len(grid_size)
    cell, channels = cells.shape[-dims:], cells.shape[-dims - 1]
    lead = cells.shape[: -dims - 2]
    batch = len(lead)
    blocks = cells.reshape(*lead, *grid_size, channels, *cell)  # (..., gh, gw[, gd], C, h, w[, d])
    interleaved = [axis for pair in range(dims) for axis in (batch + pair, batch + dims + 1 + pair)]
    spatial = [g * c for g, c in zip(grid_size, cell, strict=True)]
    return blocks.permute(*range(batch), batch + dims, *interleaved).reshape(*lead, channels, *spatial)
