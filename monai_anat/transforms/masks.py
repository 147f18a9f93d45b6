"""Random and block-wise masks for masked image modeling."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, prod, sqrt

import numpy as np
import torch
from torch import Tensor

__all__ = ["draw_block_mask", "draw_random_mask"]


def draw_block_mask(
    R: np.random.RandomState,
    grid_size: Sequence[int],
    ratio: float,
    *,
    min_cells: int = 16,
    aspect: tuple[float, float] = (0.3, 1 / 0.3),
) -> Tensor:
    """Draw a block-wise mask: hide random blocks until more than a given share of the cells is hidden.

    BEiT (Bao et al., ICLR 2022, arXiv:2106.08254), algorithm 1. Each block has a random shape, at least ``min_cells``
    cells, and at most as many as remain to be hidden. Blocks may overlap. The number of hidden cells exceeds
    ``ratio * N`` by at most ``min_cells``.

    The paper does not specify the distribution of the aspect ratio, nor the rounding of the sides. Here the logarithm
    of the ratio is uniform, so that tall and wide blocks are equally likely, and sides are rounded down.

    Args:
        R: random generator.
        grid_size: number of cells per axis, two axes, N in total.
        ratio: share of hidden cells.
        min_cells: smallest number of cells in a block.
        aspect: smallest and largest ratio of rows to columns of a block.

    Returns:
        (N,) bool, True for a hidden cell, row by row.

    Raises:
        ValueError: if the number of axes is not two, or no cell would be hidden or visible.

    >>> mask = draw_block_mask(np.random.RandomState(0), (14, 14), 0.4)
    >>> 0.4 * 196 < int(mask.sum()) <= 0.4 * 196 + 16
    True
    """
    if len(grid_size) != 2:
        raise ValueError(f"grid_size must have two axes, got {tuple(grid_size)}; draw_random_mask takes volumes")
    rows, columns = grid_size
    wanted = ratio * rows * columns
    if min_cells < 1 or not 0 < wanted < rows * columns - min_cells:
        raise ValueError(
            "mask_ratio and min_cells must hide at least one cell and leave at least one, got "
            f"mask_ratio={ratio} and min_cells={min_cells}, which hide up to {wanted + min_cells:.4g} of "
            f"{rows * columns}; change them, or take a smaller cell_size (now {rows} x {columns} cells)"
        )
    mask = np.zeros((rows, columns), bool)
    while (hidden := int(mask.sum())) <= wanted:
        cells = R.uniform(min_cells, max(min_cells, wanted - hidden))
        upright = exp(R.uniform(log(aspect[0]), log(aspect[1])))
        height = min(rows, int(cells), max(1, int(sqrt(cells * upright))))
        width = min(columns, int(cells), max(1, int(sqrt(cells / upright))))
        top, left = R.randint(rows - height + 1), R.randint(columns - width + 1)
        mask[top : top + height, left : left + width] = True
    return torch.from_numpy(mask.ravel())


def draw_random_mask(R: np.random.RandomState, grid_size: Sequence[int], ratio: float) -> Tensor:
    """Draw a mask that hides a given share of the cells, uniformly over all sets of cells.

    MAE (He et al., arXiv:2111.06377), section 3, and SimMIM (Xie et al., arXiv:2111.09886), section 3.2.

    Args:
        R: random generator.
        grid_size: number of cells per axis, N in total.
        ratio: share of hidden cells; their number is rounded.

    Returns:
        (N,) bool, True for a hidden cell, row by row.

    Raises:
        ValueError: if no cell would be hidden or visible.

    >>> int(draw_random_mask(np.random.RandomState(0), (4, 4), 0.75).sum())
    12
    """
    cells = prod(grid_size)
    hidden = round(ratio * cells)
    if not 0 < hidden < cells:
        raise ValueError(
            f"mask_ratio must hide at least one cell and leave at least one, got mask_ratio={ratio}, which hides "
            f"{hidden} of {cells}; change it, or take a smaller cell_size (now {' x '.join(map(str, grid_size))} cells)"
        )
    mask = torch.zeros(cells, dtype=torch.bool)
    mask[torch.from_numpy(R.permutation(cells)[:hidden])] = True
    return mask
