"""VICReg: variance, invariance and covariance of the embeddings of two views."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from monai_anat.distributed import gather_rows
from monai_anat.losses.vicreg import vicreg_covariance, vicreg_invariance, vicreg_variance
from monai_anat.methods.base import SSLMethod, mean_token, used_terms
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress

__all__ = ["VICRegMethod"]


class VICRegMethod(SSLMethod):
    r"""Joint embedding by variance, invariance and covariance, without negatives, teacher or predictor.

    With the embeddings :math:`z_1, z_2` of two views, the terms are "invariance" :math:`s(z_1, z_2)`, "variance"
    :math:`\tfrac12 [v(z_1) + v(z_2)]` and "covariance" :math:`c(z_1) + c(z_2)` of
    :mod:`monai_anat.losses`, weighted 25, 25 and 1: Bardes, Ponce and LeCun, "VICReg", ICLR 2022, arXiv:2105.04906,
    equation 6. Variance and covariance are statistics of the batch. They and the batch normalization of the expander
    are over all processes; micro-batches change them.

    The views are :class:`RandContrastViewsd` with ``appearance=asymmetric_appearances()``, as published except for
    color. :class:`MLVICXMethod` applies the same terms at two levels of the network.

    Differs from the released code: the covariance term is computed from the Gram matrix if the batch is smaller than
    the embedding, with the same value.

    Args:
        backbone: any backbone; ResNet-50 in the paper.
        embedding_dim: width of the three layers of the expander.
        invariance_weight: weight of "invariance"; 0 disables the term, here and below.
        variance_weight: weight of "variance".
        covariance_weight: weight of "covariance".

    Raises:
        ValueError: if a width is below 1 or all weights are 0; when called, if the views differ in shape or the batch
            holds one image.

    >>> import torch
    >>> from monai_anat.networks import ResNetBackbone
    >>> method = VICRegMethod(ResNetBackbone(depth=18), embedding_dim=32)
    >>> view = torch.rand(4, 1, 32, 32)
    >>> sorted(method({"view_1": view, "view_2": view}, Progress(0, 1, 0, 1)))
    ['covariance', 'invariance', 'variance']
    """

    views_name = "RandContrastViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        embedding_dim: int = 8192,
        invariance_weight: float = 25.0,
        variance_weight: float = 25.0,
        covariance_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.loss_weights = used_terms(
            invariance=invariance_weight, variance=variance_weight, covariance=covariance_weight
        )
        self.backbone = backbone
        self.expander = ExpanderHead(backbone.num_features, embedding_dim)

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
        # one view at a time: each is normalized by its own statistics
        z_1, z_2 = (gather_rows(at_least_float32(self.expander(mean_token(feature_map)))) for feature_map in maps)
        terms = {
            term.__name__.removeprefix("vicreg_"): term
            for term in (vicreg_invariance, vicreg_variance, vicreg_covariance)
        }
        return {name: term(z_1, z_2) for name, term in terms.items() if name in self.loss_weights}

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the backbone."""
        return {"encoder": self.backbone}
