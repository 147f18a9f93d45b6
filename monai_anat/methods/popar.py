"""POPAR: say where every patch belongs, and what the tissue looked like before it was distorted."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from torch import Tensor, nn

from ..keys import ORDER, TARGET, VIEW_1
from ..losses import order_cross_entropy, restoration_mse
from ..networks import Backbone, OrderHead, RestorationHead, to_tokens
from ..schedules import Progress
from .base import SSLMethod, check_cells, check_view, token_grid, used_terms

__all__ = ["POPARMethod"]


class POPARMethod(SSLMethod):
    """Patch order prediction and appearance recovery, from one view that is either distorted or shuffled.

    The loss is half the cross-entropy of the patches' original places plus half the mean squared error of the restored
    image, over all samples (Pang et al., "POPAR: Patch Order Prediction and Appearance Recovery for Self-supervised
    Medical Image Analysis", DART 2022, PMC9728135; Medical Image Analysis 2025, 103720). There is no teacher.

    Differs from the released code: float32 or bf16 instead of float64; one channel by default, so the pixel shuffle
    makes no colour noise.

    Args:
        backbone: any backbone of the contract; 14 x 14 tokens of 32 pixels in the paper (Swin-B).
        image_size: side of the view in pixels, a multiple of ``backbone.strides[-1]``; one number or one per axis.
        order_weight: of the term "order"; 0 leaves the term and its head away.
        restoration_weight: of the term "restoration"; 0 leaves the term and its head away.

    Raises:
        ValueError: if the cells do not tile the view, a weight is negative, or no term is left.

    >>> import torch
    >>> from monai_anat.networks import SwinBackbone
    >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
    >>> method = POPARMethod(backbone, image_size=16)
    >>> image, order = torch.rand(2, 1, 16, 16), torch.arange(16).repeat(2, 1)
    >>> terms = method({"view_1": image, "target": image, "order": order}, Progress(0, 1, 0, 1))
    >>> sorted(terms)
    ['order', 'restoration']
    """

    made_by = "POPARViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_size: int | tuple[int, ...] = 448,
        order_weight: float = 0.5,
        restoration_weight: float = 0.5,
    ) -> None:
        super().__init__()
        self.loss_weights = used_terms(order=order_weight, restoration=restoration_weight)
        self.grid = token_grid(backbone, image_size)
        self.image_size = tuple(cells * backbone.strides[-1] for cells in self.grid)
        self.backbone = backbone
        if "order" in self.loss_weights:
            self.order_head = OrderHead(backbone.num_features, prod(self.grid))
        if "restoration" in self.loss_weights:
            self.restoration_head = RestorationHead(
                backbone.num_features,
                backbone.strides[-1],
                out_channels=backbone.in_channels,
                spatial_dims=backbone.spatial_dims,
            )

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "order" and "restoration" of ``view_1``, ``target`` (B, C, H, W[, D]) and ``order`` (B, N).

        Args:
            batch: what :class:`POPARViewsd` makes, collated.
            progress: not used.

        Returns:
            The two unweighted terms.

        Raises:
            KeyError: if a key is missing.
            ValueError: if the views or the order do not fit the backbone.
        """
        view, target, order = self.take(batch, VIEW_1, TARGET, ORDER)
        check_view(VIEW_1, view, self.image_size, self.made_by)
        check_cells(ORDER, order, self.grid, self.made_by)
        feature_map = self.backbone(view)  # (B, D, h, w)
        terms = {}
        if "order" in self.loss_weights:
            terms["order"] = order_cross_entropy(self.order_head(to_tokens(feature_map)), order)
        if "restoration" in self.loss_weights:
            terms["restoration"] = restoration_mse(self.restoration_head(feature_map), target)
        return terms

    def exported(self) -> dict[str, nn.Module]:
        """Keep the backbone."""
        return {"encoder": self.backbone}
