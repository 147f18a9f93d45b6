"""Batched matching of cells between two crops, binary and soft."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["shifted_inside", "soft_match_targets"]


def shifted_inside(shift: Tensor, grid_size: Sequence[int], target_grid: Sequence[int]) -> Tensor:
    """Compute which cells of a crop lie inside another crop.

    Cell (r, c) of the crop is cell (r, c) + ``shift`` of the other crop, if the other crop contains it.

    Args:
        shift: (B, 2), offset in whole cells (row, column).
        grid_size: grid (rows, columns) of the crop, with N cells.
        target_grid: grid (rows, columns) of the other crop.

    Returns:
        (B, N) bool, row-major.

    >>> shifted_inside(torch.tensor([[-1, 0]]), (2, 2), (2, 2))
    tensor([[False, False,  True,  True]])
    """
    rows, columns = (
        (place >= 0) & (place < side) for place, side in zip(_places(shift, grid_size), target_grid, strict=True)
    )
    return (rows[:, :, None] & columns[:, None, :]).flatten(1)  # (B, N)


def soft_match_targets(shift: Tensor, grid_size: Sequence[int], target_grid: Sequence[int], radius: int) -> Tensor:
    r"""Compute soft matches between the cells of a crop and the cells of another crop.

    Cell i of the crop lies at position :math:`p_i = i + s` on the grid of the other crop. If this is inside,

    .. math:: y_{ij} = \exp(-\lVert j - p_i \rVert^2 / 2) \text{ for } |j - p_i| \le \text{radius along both axes},

    a Gaussian of standard deviation 1 that is 1 at its center, clipped at the borders and not renormalized; otherwise
    it is 0. ACE (arXiv:2501.10131) uses radius 2 from the small to the large crop, and 1 from the large to the small
    crop. The Gaussian is a product over axes, so there is no loop over cells, and everything stays on the device of
    ``shift``.

    Args:
        shift: (B, 2), offset in whole cells (row, column) of the other grid.
        grid_size: grid (rows, columns) of the crop, with N cells.
        target_grid: grid (rows, columns) of the other crop, with M cells.
        radius: distance in cells per axis beyond which a target is 0.

    Returns:
        (B, N, M) float32 in [0, 1], both axes row-major.

    >>> soft_match_targets(torch.tensor([[0, 1]]), (1, 2), (1, 3), radius=1)
    tensor([[[0.6065, 1.0000, 0.6065],
             [0.0000, 0.6065, 1.0000]]])
    """
    along = []
    for place, side in zip(_places(shift, grid_size), target_grid, strict=True):
        distance = torch.arange(side, device=shift.device) - place[:, :, None]  # (B, n, side)
        seen = (distance.abs() <= radius) & ((place >= 0) & (place < side))[:, :, None]
        along.append(torch.exp(-0.5 * distance.square().to(torch.float32)) * seen)
    rows, columns = along
    return torch.einsum("brh,bcw->brchw", rows, columns).flatten(3).flatten(1, 2)  # (B, N, M)


def _places(shift: Tensor, grid_size: Sequence[int]) -> list[Tensor]:
    """Positions of the rows (B, h) and columns (B, w) of a crop on the grid of the other crop."""
    if shift.ndim != 2 or shift.shape[1] != 2 or len(grid_size) != 2:
        raise ValueError(
            f"shift must be (B, 2), rows and columns, with a grid_size of two, got {tuple(shift.shape)} and "
            f"{tuple(grid_size)}"
        )
    return [torch.arange(side, device=shift.device) + shift[:, a, None] for a, side in enumerate(grid_size)]
