"""Which cells of an image are hidden from a network that has to say what is there."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

__all__ = ["draw_random_mask"]


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
