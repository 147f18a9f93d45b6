"""A learned token in place of the patches that a network is not shown."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

__all__ = ["MaskToken"]


class MaskToken(nn.Module):
    """Put one learned token in place of embedded patches; every hidden cell covers whole patches.

    SimMIM (arXiv:2111.09886, section 3.2) and BEiT (arXiv:2106.08254, section 2.3). It stands between the patch
    embedding of a backbone and :meth:`SwinBackbone.forward_patches` or :meth:`ViTBackbone.forward_patches`.

    Args:
        channels: of the embedded patches, ``backbone.channels[0]``.

    Example:
        >>> hidden = torch.tensor([[True, False, False, False]])
        >>> MaskToken(3)(torch.zeros(1, 4, 4, 3), hidden, (2, 2)).abs().sum(-1).gt(0)[0, 0].tolist()
        [True, True, False, False]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(channels))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, patches: Tensor, hidden: Tensor, grid: Sequence[int]) -> Tensor:
        """Replace the patches of hidden cells.

        Args:
            patches: (B, h, w[, d], channels).
            hidden: (B, N) bool, True for a hidden cell, row by row.
            grid: cells per axis, N in all, a divisor of the patches per axis.

        Returns:
            As ``patches``.

        Raises:
            ValueError: if the cells do not consist of whole patches.
        """
        sides = patches.shape[1:-1]
        if hidden.shape[1:] != (prod(grid),) or any(side % cells for side, cells in zip(sides, grid, strict=True)):
            raise ValueError(
                f"hidden must be (B, {prod(grid)}), one entry for each of {' x '.join(map(str, grid))} cells of whole "
                f"patches, got {tuple(hidden.shape)} and {' x '.join(map(str, sides))} patches; take a cell_size that "
                "is a multiple of the patch size"
            )
        mask = hidden.unflatten(1, tuple(grid))  # (B, cells per axis)
        for axis, (side, cells) in enumerate(zip(sides, grid, strict=True), start=1):
            mask = mask.repeat_interleave(side // cells, axis)
        return torch.where(mask.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)
