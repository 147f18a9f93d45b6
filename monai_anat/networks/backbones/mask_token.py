"""Learned mask token that replaces embedded patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import static_shape

__all__ = ["MaskToken"]


class MaskToken(nn.Module):
    """Replace the embedded patches of masked cells by one learned token; every cell covers whole patches.

    SimMIM (arXiv:2111.09886, section 3.2) and BEiT (arXiv:2106.08254, section 2.3). Apply it between
    :meth:`Backbone.embed_patches` and :meth:`Backbone.forward_patches`.

    Args:
        channels: number of channels of the embedded patches, ``backbone.channels[0]``.

    Example:
        >>> hidden = torch.tensor([[True, False, False, False]])
        >>> MaskToken(3)(torch.zeros(1, 4, 4, 3), hidden, [2, 2]).abs().sum(-1).gt(0)[0, 0].tolist()
        [True, True, False, False]
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(channels))
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def forward(self, patches: Tensor, hidden: Tensor, grid: list[int]) -> Tensor:
        """Replace the patches of masked cells.

        Args:
            patches: (B, h, w[, d], channels).
            hidden: (B, N) bool, True for a masked cell, in row-major order.
            grid: number of cells per axis, N in total. Each must divide the number of patches along its axis.

        Returns:
            Patches of the same shape.

        Raises:
            ValueError: if the cells do not consist of whole patches.
        """
        sides = static_shape(patches)[1:-1]
        count, remainder = 1, len(grid) - len(sides)
        for axis, cells in enumerate(grid):
            count *= cells
            remainder += sides[axis] % cells
        if remainder != 0 or hidden.dim() != 2 or hidden.shape[1] != count:
            raise ValueError(
                f"hidden must be (B, {count}), one entry for each cell of a {_joined(grid)} grid of whole patches, got "
                f"{static_shape(hidden)} and {_joined(sides)} patches; use a cell_size that is a multiple of the "
                "patch size"
            )
        mask = hidden.unflatten(1, grid)  # (B, cells per axis)
        for axis, cells in enumerate(grid):
            mask = mask.repeat_interleave(sides[axis] // cells, 1 + axis)
        return torch.where(mask.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)


def _joined(sizes: list[int]) -> str:
    return " x ".join([str(size) for size in sizes])
