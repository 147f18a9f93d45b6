"""Barlow Twins: each dimension of the embedding agrees between two views, and repeats no other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from monai_anat.distributed import gather_rows
from monai_anat.losses.correlation import correlation_agreement, correlation_redundancy
from monai_anat.methods.base import SSLMethod, mean_token, used_terms
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress

__all__ = ["REDUNDANCY_WEIGHT", "BarlowTwinsMethod", "barlow_projector", "barlow_terms"]

#: published weight of "redundancy" beside "agreement"
REDUNDANCY_WEIGHT = 5e-3


class BarlowTwinsMethod(SSLMethod):
    r"""The cross-correlation matrix C of two views' embeddings over the batch becomes the identity.

    The terms are "agreement" :math:`\sum_i (1 - C_{ii})^2` and "redundancy" :math:`\sum_{i \ne j} C_{ij}^2`, weighted 1
    and .005: Zbontar et al., "Barlow Twins", ICML 2021, arXiv:2103.03230, equation 1. C is a statistic of the batch: it
    and the BatchNorms of the projector are over all processes, and micro-batches change it.

    The views are :class:`RandContrastViewsd` with ``appearance=asymmetric_appearances()``, as published without color.
    ``monai.losses.BarlowTwinsLoss`` is not used: its value for equal views is D / B^2 and not 0, which for the batches
    of one workstation outweighs what is to be learned (:func:`~monai_anat.losses.correlation_agreement`).

    Biases and normalization layers learn at a rate of their own, as published: .0048 where weights have .2.

    Args:
        backbone: any backbone of the contract; ResNet-50 in the paper.
        embedding_dim: width of the three layers of the projector.
        agreement_weight: of "agreement".
        redundancy_weight: of "redundancy".
        undecayed_lr_scale: learning rate of biases and normalization layers, as a factor.

    Raises:
        ValueError: for a width below 1, a weight below 0, a factor that is not positive, or (when called) views of
            different shapes or a batch of one.

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
        self.projector = barlow_projector(backbone.num_features, embedding_dim)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute the terms of ``view_1`` and ``view_2`` (B, C, H, W[, D]).

        Args:
            batch: what :class:`RandContrastViewsd` makes, collated.
            progress: not used.

        Returns:
            The unweighted terms by name.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape, or there is only one image in the batch of all processes.
        """
        view_1, view_2 = self.get_view_pair(batch, at_least=2)
        maps = self.forward_together(self.backbone, view_1, view_2)
        terms = barlow_terms(self.projector, *maps)
        return {name: term for name, term in terms.items() if name in self.loss_weights}

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Give what does not decay, biases and normalization layers, its own learning rate."""
        groups = super().param_groups(weight_decay)
        return [group if group["decayed"] else {**group, "lr_scale": self.undecayed_lr_scale} for group in groups]

    def export_networks(self) -> dict[str, nn.Module]:
        """Keep the backbone."""
        return {"encoder": self.backbone}


def barlow_projector(num_features: int, embedding_dim: int) -> ExpanderHead:
    """The projector of Barlow Twins: three layers without bias.

    Args:
        num_features: channels of the backbone's last map.
        embedding_dim: width of all layers.
    """
    return ExpanderHead(num_features, embedding_dim, bias=False)


def barlow_terms(projector: nn.Module, map_1: Tensor, map_2: Tensor) -> dict[str, Tensor]:
    """The unweighted terms "agreement" and "redundancy" of two views, over the rows of all processes.

    Args:
        projector: (B, D) -> (B, embedding_dim).
        map_1: (B, D, h, w[, d]), the backbone's last map of one view.
        map_2: of the other view.
    """
    # one after the other: each view is normalized by its own statistics
    z_1, z_2 = (gather_rows(at_least_float32(projector(mean_token(feature_map)))) for feature_map in (map_1, map_2))
    return {"agreement": correlation_agreement(z_1, z_2), "redundancy": correlation_redundancy(z_1, z_2)}
