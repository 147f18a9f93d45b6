"""Which cells of an image are hidden from a network that has to say what is there."""

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
    """Hide blocks of cells, one after the other and wherever they fall, until more than a share of all is hidden.

    The block-wise masking of BEiT (Bao et al., ICLR 2022, arXiv:2106.08254, algorithm 1). A block has ``min_cells`` or
    more cells, at most as many as are still to be hidden, and a random shape; blocks may overlap. Thus more than
    ``ratio * N`` cells are hidden and at most ``min_cells`` more than that.

    The paper does not say how an aspect ratio is drawn from its range, nor how a side becomes a whole number. Here the
    logarithm is uniform, so that upright blocks are as likely as lying ones, and sides are rounded down.

    Args:
        R: generator.
        grid_size: cells per axis, two axes; N in all.
        ratio: share of hidden cells.
        min_cells: cells of the smallest block.
        aspect: smallest and largest ratio of a block's rows to its columns.

    Returns:
        (N,) bool, True for a hidden cell, row by row.

    Raises:
        ValueError: for another number of axes, or if no cell might be hidden, or none left.

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
    """Hide a share of the cells, each set of that many as likely as any other.

    The random masking of MAE (He et al., arXiv:2111.06377, section 3) and SimMIM (Xie et al., arXiv:2111.09886, section
    3.2).

    Args:
        R: generator.
        grid_size: cells per axis; N in all.
        ratio: share of hidden cells; their number is rounded.

    Returns:
        (N,) bool, True for a hidden cell, row by row.

    Raises:
        ValueError: if no cell would be hidden, or none left.

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
