"""Base class of methods that replace hidden cells by a learned token."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from torch import Tensor, nn

from monai_anat.keys import MASK, MASK_COUNT, VIEW_1
from monai_anat.methods.base import SSLMethod, check_view, token_grid
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.mask_token import MaskToken
from monai_anat.transforms.geometry import grid_shape

__all__ = ["MaskedImageMethod"]


class MaskedImageMethod(SSLMethod):
    """A backbone with a learned mask token, and the number of hidden cells as denominator: SimMIM and BEiT.

    Args:
        backbone: a :class:`~monai_anat.networks.SwinBackbone` or :class:`~monai_anat.networks.ViTBackbone`.
        image_size: side of the view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        cell_size: pixels per side of a cell, a multiple of ``backbone.patch_size`` and a divisor of ``image_size``.

    Raises:
        ValueError: if patches, cells and view do not tile each other.
    """

    views_name = "RandMaskedViewsd"

    def __init__(self, backbone: Backbone, *, image_size: int | tuple[int, ...], cell_size: int) -> None:
        super().__init__()
        if cell_size < 1 or cell_size % backbone.patch_size:
            raise ValueError(
                f"cell_size must be a multiple of the backbone's patch_size, got cell_size={cell_size} and "
                f"patch_size={backbone.patch_size}; SimMIM has 32"
            )
        self.image_size = tuple(cells * backbone.strides[-1] for cells in token_grid(backbone, image_size))
        self.cell_size = cell_size
        self.grid = grid_shape(self.image_size, cell_size)
        self.backbone = backbone
        self.mask_token = MaskToken(backbone.channels[0])

    def masked_map(self, view: Tensor, mask: Tensor) -> Tensor:
        """Compute the last feature map of a view with its hidden cells masked.

        Args:
            view: view (B, C, H, W[, D]).
            mask: mask (B, N) bool, True for hidden cells.

        Returns:
            The last feature map (B, D, h, w[, d]).

        Raises:
            ValueError: if the view has another size than the method was built for.
        """
        check_view(VIEW_1, view, self.image_size, self.views_name)
        patches = self.mask_token(self.backbone.embed_patches(view), mask, list(self.grid))  # (B, h, w, E)
        return self.backbone.forward_patches(patches)[-1]

    def get_mask(self, batch: Mapping[str, Any]) -> Tensor:
        """Read the mask (B, N) of a batch.

        Args:
            batch: collated items of the views transform.

        Returns:
            The mask, True for hidden cells.

        Raises:
            KeyError: if the batch has no mask.
            ValueError: if the mask is for another grid than the method was built for.
        """
        (mask,) = self.get_tensors(batch, MASK)
        if mask.ndim != 2 or mask.shape[1] != prod(self.grid):
            raise ValueError(
                f"{MASK} must be (B, {prod(self.grid)}), one entry for each cell of {self.cell_size} pixels, got "
                f"{tuple(mask.shape)}; give {self.views_name} image_size={self.image_size} and "
                f"cell_size={self.cell_size}"
            )
        return mask

    def loss_denominators(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """Count the hidden cells of the batch, the denominator of the term over them."""
        return {MASK_COUNT: self.get_mask(batch).sum()}

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the backbone."""
        return {"encoder": self.backbone}
