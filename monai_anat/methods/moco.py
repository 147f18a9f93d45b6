"""MoCo v2: tell images apart, a query against keys of a moving average and of earlier images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from monai_anat.methods.momentum_contrast import MomentumContrastMethod
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.schedules import Progress

__all__ = ["MoCoV2Method"]


class MoCoV2Method(MomentumContrastMethod):
    r"""Momentum contrast, the baseline of the anatomy methods that contrast.

    With query :math:`q` (student, view 1), key :math:`k` (teacher, view 2) and the queue :math:`n_j` of earlier keys,
    all of unit length, the term "contrast" is

    .. math:: -\log \frac{e^{q k / \tau}}{e^{q k / \tau} + \sum_j e^{q n_j / \tau}}

    averaged over the batch: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
    arXiv:1911.05722, equation 1, with the head and the augmentation of Chen et al., 2020, arXiv:2003.04297. The views
    are :class:`RandContrastViewsd`. :class:`AdamMethod` is the same contrast of anatomical cells, with a pruned queue.

    Differs from the released code: see :class:`MomentumContrastMethod`.

    Args:
        backbone: any backbone of the contract, 2D or 3D; ResNet-50 in the paper.
        embedding_dim: width of queries and keys.
        hidden_dim: width of the projection's hidden layer; that of the backbone if not given.
        queue_size: how many keys wait; the batch over all processes must divide it.
        temperature: :math:`\tau`.

    Raises:
        ValueError: for a queue without rows, or a temperature that is not positive.

    >>> import torch
    >>> from monai_anat.networks import ResNetBackbone
    >>> method = MoCoV2Method(ResNetBackbone(depth=18), queue_size=16)
    >>> view = torch.rand(4, 1, 32, 32)
    >>> sorted(method({"view_1": view, "view_2": view}, Progress(0, 1, 0, 1)))
    ['contrast']
    """

    views_name = "RandContrastViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        embedding_dim: int = 128,
        hidden_dim: int | None = None,
        queue_size: int = 65536,
        temperature: float = 0.2,
    ) -> None:
        super().__init__(
            backbone,
            embedding_dim=embedding_dim,
            hidden_dim=hidden_dim,
            queue_size=queue_size,
            temperature=temperature,
        )
        self.loss_weights = {"contrast": 1.0}
        self.backbone = backbone

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "contrast" of ``view_1`` and ``view_2`` (B, C, H, W[, D]); in training, remember the keys.

        Args:
            batch: what :class:`RandContrastViewsd` makes, collated.
            progress: not used.

        Returns:
            The one term.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape.
        """
        view_1, view_2 = self.get_view_pair(batch)
        return {"contrast": self.contrast(self.backbone(view_1), view_2)}

    def export_networks(self) -> dict[str, nn.Module]:
        """Keep the student's backbone."""
        return {"encoder": self.backbone}
