"""A large and a small crop of one grid, in which each token of the large crop covers whole tokens of the small one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from monai_anat.transforms.draws import draw_integers
from monai_anat.transforms.geometry import crop_slices, per_axis

__all__ = ["PartWholeCropsDraw", "check_part_whole_grid", "cut_part_whole_crops", "draw_part_whole_crops"]


@dataclass(frozen=True)
class PartWholeCropsDraw:
    """First cells (row, column) of the large and the small crop on their common grid."""

    offset_large: tuple[int, ...]
    offset_small: tuple[int, ...]

    @property
    def offset(self) -> tuple[int, ...]:
        """Offset in cells from the large to the small crop."""
        return tuple(b - a for a, b in zip(self.offset_large, self.offset_small, strict=True))


def check_part_whole_grid(
    source_grid: int | Sequence[int], grid_size: int | Sequence[int], scale: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Check that both crops fit on the source, consist of whole tokens, and always overlap.

    Args:
        source_grid: number of cells per side of the source.
        grid_size: number of tokens per side of either crop, T.
        scale: number of cells per token of the large crop along each axis; 1 for equal scales.

    Returns:
        Source grid and grid size, one number per axis.

    Raises:
        ValueError: if a condition does not hold.

    >>> check_part_whole_grid(32, 14, (2, 2))
    ((32, 32), (14, 14))
    """
    if min(scale) < 1:
        raise ValueError(f"scale must be whole numbers of at least 1, cells per token of the large crop, got {scale}")
    source = per_axis(source_grid, len(scale), "source_grid")
    grid = per_axis(grid_size, len(scale), "grid_size")
    if any(side % step for side, step in zip(grid, scale, strict=True)):
        raise ValueError(
            f"grid_size must be a multiple of scale, so that parts make up wholes, got grid_size={grid_size} and "
            f"scale={tuple(scale)}; take an even grid for a scale of 2"
        )
    for side, cells, step in zip(source, grid, scale, strict=True):
        longest = cells * step
        if side < longest or (step > 1 and side >= longest + cells):
            raise ValueError(
                f"source_grid must be from {longest} to {longest + cells - 1} cells for grid_size={grid_size} and "
                f"scale={tuple(scale)}, so that both crops fit and always overlap, got {source_grid}; "
                "ACE uses 32 for 14 and (2, 2)"
            )
    return source, grid


def draw_part_whole_crops(
    R: np.random.RandomState,
    source_grid: int | Sequence[int] = 32,
    grid_size: int | Sequence[int] = 14,
    scale: Sequence[int] = (2, 2),
) -> PartWholeCropsDraw:
    """Draw the positions of a large and a small crop. ACE (arXiv:2501.10131).

    The large crop has ``scale * grid_size`` cells per side and starts at any cell at which it fits. The small one has
    ``grid_size`` cells, each a token, and starts an exact number of large tokens away: with a scale of 2 at a cell of
    the same parity, so that each token of the large crop covers a block of whole tokens of the small one. Along an
    axis of scale 1 the two are at most half a crop apart. Their overlap is never empty: at least 10 of 14 small cells
    for the sizes of the paper.

    Differs from the released code: rows and columns are not exchanged (there, 8.64 % of the pairs show the same
    anatomy), and crops of equal scale never lie apart.

    Args:
        R: random generator.
        source_grid: cells per side of the source.
        grid_size: tokens per side of either crop.
        scale: cells per token of the large crop, along each axis: (2, 2), (1, 2), (2, 1) or (1, 1) in ACE.

    Returns:
        The placement.

    Raises:
        ValueError: if the crops do not fit or might not overlap.

    >>> draw_part_whole_crops(np.random.RandomState(0)).offset
    (6, 6)
    """
    source, grid = check_part_whole_grid(source_grid, grid_size, scale)
    large, small = [], []
    for side, cells, step in zip(source, grid, scale, strict=True):
        first = int(draw_integers(R, 0, side - step * cells))
        low, high = 0, side - cells
        if step == 1:
            low, high = max(low, first - cells // 2), min(high, first + cells // 2)
        low += (first - low) % step
        large.append(first)
        small.append(low + step * int(draw_integers(R, 0, (high - low) // step)))
    return PartWholeCropsDraw(tuple(large), tuple(small))


def cut_part_whole_crops(
    source: Tensor,
    draw: PartWholeCropsDraw,
    grid_size: int | Sequence[int],
    cell_size: int | Sequence[int],
    scale: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Crop both views and resize the large one to the size of the small one.

    The small crop keeps its pixels. The large crop is averaged over ``scale`` pixels along each axis, which equals
    bilinear interpolation at exactly half the size.

    Args:
        source: image (C, H, W[, D]), floating point.
        draw: positions of the crops.
        grid_size: number of tokens per side of either crop.
        cell_size: side of a cell in pixels, which is also the side of a token in either crop.
        scale: number of cells per token of the large crop along each axis.

    Returns:
        The large and the small crop, (C, h, w[, d]) each, views or copies of the source.

    >>> import torch
    >>> source = torch.arange(16.0).reshape(1, 4, 4)
    >>> large, small = cut_part_whole_crops(source, PartWholeCropsDraw((0, 0), (0, 2)), 2, 1, (2, 2))
    >>> large[0, 0], small[0].mean()
    (tensor([2.5000, 4.5000]), tensor(4.5000))
    """
    dims = len(scale)
    grid, cell = per_axis(grid_size, dims, "grid_size"), per_axis(cell_size, dims, "cell_size")
    long_grid = [g * s for g, s in zip(grid, scale, strict=True)]
    whole = source[(slice(None), *crop_slices(draw.offset_large, long_grid, cell))]
    part = source[(slice(None), *crop_slices(draw.offset_small, grid, cell))]
    size = [g * c for g, c in zip(grid, cell, strict=True)]
    return F.interpolate(whole[None], size, mode="area")[0], part
