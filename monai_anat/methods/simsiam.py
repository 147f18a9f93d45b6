"""SimSiam: siamese networks with a stopped gradient."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from monai_anat.losses.consistency import global_consistency
from monai_anat.methods.base import SSLMethod, mean_token, split_groups
from monai_anat.methods.parts import MethodPart
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.networks.heads.global_batch_norm import GlobalBatchNorm
from monai_anat.schedules import Progress

__all__ = ["SiameseSimilarity", "SimSiamMethod"]


class SimSiamMethod(SSLMethod):
    r"""Siamese networks without negatives, teacher or queue.

    With the embeddings :math:`z_1, z_2` of two views and a predictor's :math:`p_i = h(z_i)`, the term "similarity" is

    .. math:: -\tfrac12 \left[ \cos(p_1, \mathrm{sg}\, z_2) + \cos(p_2, \mathrm{sg}\, z_1) \right]

    averaged over the batch; its minimum is -1 and sg stops the gradient, which prevents a collapse: Chen and He,
    "Exploring Simple Siamese Representation Learning", CVPR 2021, arXiv:2011.10566, equations 1 to 4. The views are
    :class:`RandContrastViewsd`. Batch normalization of the heads is over all processes.

    As published, the learning rate of the predictor is constant: its parameter groups have ``scheduled=False``.

    Args:
        backbone: any backbone, 2D or 3D; ResNet-50 in the paper.
        embedding_dim: width of the three layers of the projection, all with batch normalization, and of the prediction.
        hidden_dim: width of the predictor's hidden layer.

    Raises:
        ValueError: if a width is below 1, or (when called) the views differ in shape or the batch holds one image.

    >>> import torch
    >>> from monai_anat.networks import ResNetBackbone
    >>> method = SimSiamMethod(ResNetBackbone(depth=18), embedding_dim=32, hidden_dim=8)
    >>> view = torch.rand(4, 1, 32, 32)
    >>> sorted(method({"view_1": view, "view_2": view}, Progress(0, 1, 0, 1)))
    ['similarity']
    """

    views_name = "RandContrastViewsd"

    def __init__(self, backbone: Backbone, *, embedding_dim: int = 2048, hidden_dim: int = 512) -> None:
        super().__init__()
        self.loss_weights = {"similarity": 1.0}
        self.backbone = backbone
        self.similarity = SiameseSimilarity(backbone.num_features, embedding_dim, hidden_dim)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "similarity" of ``view_1`` and ``view_2`` (B, C, H, W[, D]).

        Args:
            batch: collated items of :class:`RandContrastViewsd`.
            progress: not used.

        Returns:
            The unweighted term.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape, or the batch of all processes holds one image.
        """
        view_1, view_2 = self.get_view_pair(batch, at_least=2)
        maps = self.forward_together(self.backbone, view_1, view_2)
        return {"similarity": self.similarity(*maps)}

    def param_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        """Separate the predictor, which has a constant learning rate."""
        return split_groups(super().param_groups(weight_decay), self.similarity.predictor, "predictor", scheduled=False)

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the backbone."""
        return {"encoder": self.backbone}


class SiameseSimilarity(MethodPart):
    """Projection and predictor of SimSiam, and the similarity of two views.

    Args:
        in_features: channels of the backbone's last map.
        embedding_dim: width of the three layers of the projection, and of the prediction. The last normalization of the
            projection has no weight and no bias.
        hidden_dim: width of the predictor's hidden layer.

    Raises:
        ValueError: if a width is below 1.

    >>> import torch
    >>> similarity = SiameseSimilarity(8, embedding_dim=16, hidden_dim=4)
    >>> -1 <= similarity(torch.rand(4, 8, 3, 3), torch.rand(4, 8, 3, 3)).item() <= 1
    True
    """

    def __init__(self, in_features: int, embedding_dim: int = 2048, hidden_dim: int = 512) -> None:
        super().__init__()
        if hidden_dim < 1:
            raise ValueError(f"hidden_dim must be at least 1, got {hidden_dim}; SimSiam has 512 for 2048")
        self.projection = ExpanderHead(in_features, embedding_dim, bias=False, final_norm=True)
        self.projection[-1].requires_grad_(False)
        self.predictor = nn.Sequential(
            nn.Linear(embedding_dim, hidden_dim, bias=False),
            GlobalBatchNorm(hidden_dim),
            nn.ReLU(inplace=True),
            nn.Linear(hidden_dim, embedding_dim),
        )

    def forward(self, map_1: Tensor, map_2: Tensor) -> Tensor:
        """Compute the negative mean cosine of each view's prediction and the other view's projection.

        No gradient flows into the projection that a prediction is compared with.

        Args:
            map_1: the backbone's last map of one view (B, D, h, w[, d]).
            map_2: the backbone's last map of the other view.

        Returns:
            A scalar in [-1, 1].
        """
        # one view at a time: each is normalized by its own statistics
        z_1, z_2 = (self.projection(mean_token(feature_map)) for feature_map in (map_1, map_2))
        p_1, p_2 = self.predictor(z_1), self.predictor(z_2)
        distance = global_consistency(p_1, z_2.detach()) + global_consistency(p_2, z_1.detach())  # 2 - 2 cos each
        return distance / 4 - 1
