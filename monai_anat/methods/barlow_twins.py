"""Barlow Twins: redundancy reduction by the cross-correlation of two views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from monai_anat.distributed import gather_rows
from monai_anat.losses.correlation import correlation_agreement, correlation_redundancy
from monai_anat.methods.base import SSLMethod, mean_token, used_terms
from monai_anat.methods.parts import MethodPart
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress

__all__ = ["REDUNDANCY_WEIGHT", "BarlowTwinsMethod", "CrossCorrelation"]

#: published weight of "redundancy" relative to "agreement"
REDUNDANCY_WEIGHT = 5e-3


class BarlowTwinsMethod(SSLMethod):
    r"""Drive the cross-correlation matrix C of two views' embeddings towards the identity.

    The terms are "agreement" :math:`\sum_i (1 - C_{ii})^2` and "redundancy" :math:`\sum_{i \ne j} C_{ij}^2`, weighted 1
    and 0.005: Zbontar et al., "Barlow Twins", ICML 2021, arXiv:2103.03230, equation 1. C is a statistic of the batch.
    It and the batch normalization of the projector are over all processes; micro-batches change it.

    The views are :class:`RandContrastViewsd` with ``appearance=asymmetric_appearances()``, as published except for
    color. ``monai.losses.BarlowTwinsLoss`` is not used: its value for equal views is D / B^2 and not 0, which outweighs
    the signal at the batch sizes of one workstation (:func:`~monai_anat.losses.correlation_agreement`).

    As published, biases and normalization layers have a learning rate of their own: 0.0048 where weights have 0.2.

    Args:
        backbone: any backbone; ResNet-50 in the paper.
        embedding_dim: width of the three layers of the projector.
        agreement_weight: weight of "agreement".
        redundancy_weight: weight of "redundancy".
        undecayed_lr_scale: factor of the learning rate of biases and normalization layers.

    Raises:
        ValueError: if a width is below 1, a weight is negative, the factor is not positive, or (when called) the views
            differ in shape or the batch holds one image.

    >>> import torch
    >>> from monai_anat.networks import ResNetBackbone
    >>> method = BarlowTwinsMethod(ResNetBackbone(depth=18), embedding_dim=32)
    >>> view = torch.rand(4, 1, 32, 32)
    >>> sorted(method({"view_1": view, "view_2": view}, Progress(0, 1, 0, 1)))
    ['agreement', 'redundancy']
    """

    views_name = "RandContrastViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        embedding_dim: int = 8192,
        agreement_weight: float = 1.0,
        redundancy_weight: float = REDUNDANCY_WEIGHT,
        undecayed_lr_scale: float = 0.0048 / 0.2,
    ) -> None:
        super().__init__()
        if not undecayed_lr_scale > 0:
            raise ValueError(f"undecayed_lr_scale must be positive, got {undecayed_lr_scale}; 1 is one rate for all")
        self.loss_weights = used_terms(agreement=agreement_weight, redundancy=redundancy_weight)
        self.undecayed_lr_scale = undecayed_lr_scale
        self.backbone = backbone
        self.correlation = CrossCorrelation(backbone.num_features, embedding_dim)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1`` and ``view_2`` (B, C, H, W[, D]).

        Args:
            batch: collated items of :class:`RandContrastViewsd`.
            progress: not used.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape, or the batch of all processes holds one image.
        """
        view_1, view_2 = self.get_view_pair(batch, at_least=2)
        maps = self.forward_together(self.backbone, view_1, view_2)
        terms = self.correlation(*maps)
        return {name: term for name, term in terms.items() if name in self.loss_weights}

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Scale the learning rate of biases and normalization layers, which do not decay."""
        groups = super().param_groups(weight_decay)
        return [group if group["decayed"] else {**group, "lr_scale": self.undecayed_lr_scale} for group in groups]

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the backbone."""
        return {"encoder": self.backbone}


class CrossCorrelation(MethodPart):
    """Projector of Barlow Twins, and the two terms of the cross-correlation of two views.

    Args:
        in_features: channels of the backbone's last map.
        embedding_dim: width of the three layers of the projector, which have no bias.

    Raises:
        ValueError: if a width is below 1.

    >>> import torch
    >>> correlation = CrossCorrelation(8, embedding_dim=16)
    >>> sorted(correlation(torch.rand(4, 8, 3, 3), torch.rand(4, 8, 3, 3)))
    ['agreement', 'redundancy']
    """

    def __init__(self, in_features: int, embedding_dim: int = 8192) -> None:
        super().__init__()
        self.projector = ExpanderHead(in_features, embedding_dim, bias=False)

    def forward(self, map_1: Tensor, map_2: Tensor) -> dict[str, Tensor]:
        """Compute the unweighted terms of two views, over the rows of all processes.

        Args:
            map_1: the backbone's last map of one view (B, D, h, w[, d]).
            map_2: the backbone's last map of the other view.

        Returns:
            "agreement" and "redundancy".
        """
        # one view at a time: each is normalized by its own statistics
        z_1, z_2 = (
            gather_rows(at_least_float32(self.projector(mean_token(feature_map)))) for feature_map in (map_1, map_2)
        )
        return {"agreement": correlation_agreement(z_1, z_2), "redundancy": correlation_redundancy(z_1, z_2)}
