"""MoCo v3: tell the images of a batch apart, a prediction against keys of a moving average, without a queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.distributed import gather_rows, get_rank_and_world_size
from monai_anat.losses.contrastive import batch_info_nce
from monai_anat.methods.base import TeacherStudentMethod, mean_token
from monai_anat.methods.parts import frozen_copy
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.precision import at_least_float32
from monai_anat.schedules import Progress

__all__ = ["MoCoV3Method"]


class MoCoV3Method(TeacherStudentMethod):
    r"""Momentum contrast within the batch, made for vision transformers.

    The student's backbone, projection and prediction make queries :math:`q_1, q_2` of two views, the moving average of
    backbone and projection makes keys :math:`k_1, k_2`, all of unit length. The term "contrast" is

    .. math:: 2 \tau \,\big[\mathrm{ctr}(q_1, k_2) + \mathrm{ctr}(q_2, k_1)\big], \qquad
        \mathrm{ctr}(q, k) = -\frac{1}{B} \sum_b \log \frac{e^{q_b k_b / \tau}}{\sum_j e^{q_b k_j / \tau}}

    with the images j of the batches of all processes: Chen, Xie and He, "An Empirical Study of Training Self-Supervised
    Vision Transformers", ICCV 2021, arXiv:2104.02057, equation 1 and algorithm 1. The views are
    :class:`RandContrastViewsd` with ``appearance=asymmetric_appearances()``. Negatives are images of the same batch,
    and micro-batches change them; the heads normalize by the batch over all processes, that of the teacher too.

    Differs from the paper: the embedding of a ViT is the mean of its patches and not a class token; batch normalization
    inside the teacher's backbone (ResNet) uses running statistics.

    Args:
        backbone: any backbone of the contract, 2D or 3D; ViT in the paper.
        embedding_dim: width of queries and keys.
        hidden_dim: width of the hidden layers, two of the projection and one of the prediction.
        temperature: :math:`\tau`.
        frozen_patch_embedding: leave the embedding of patches of a ViT as it was drawn, which makes training stable
            (section 4.2 of the paper).
        fixed_positions: put fixed sine-cosine positions into a ViT, as published. False leaves those that it has, for
            one that comes with weights.

    Raises:
        ValueError: for a temperature that is not positive, a width below 1, a backbone without an embedding of patches
            or positions to fix, or (when called) views of different shapes or a batch of one.

    >>> from monai_anat.networks import ViTBackbone
    >>> backbone = ViTBackbone(image_size=32, embed_dim=24, depth=1, num_heads=3)
    >>> method = MoCoV3Method(backbone, embedding_dim=8, hidden_dim=16, frozen_patch_embedding=True)
    >>> view = torch.rand(4, 1, 32, 32)
    >>> sorted(method({"view_1": view, "view_2": view}, Progress(0, 1, 0, 1)))
    ['contrast']
    """

    views_name = "RandContrastViewsd"

    def __init__(
        self,
        backbone: Backbone,
        *,
        embedding_dim: int = 256,
        hidden_dim: int = 4096,
        temperature: float = 0.2,
        frozen_patch_embedding: bool = False,
        fixed_positions: bool = False,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f"temperature must be positive, got {temperature}; MoCo v3 has 0.2")
        if frozen_patch_embedding:
            if not backbone.patch_size:
                raise ValueError(
                    f"frozen_patch_embedding needs a backbone that embeds patches, got {type(backbone).__name__}; "
                    "take a ViTBackbone, or frozen_patch_embedding=False"
                )
            backbone.patch_embed.requires_grad_(False)
        if fixed_positions:
            if not backbone.supports_fixed_positions:
                raise ValueError(
                    f"fixed_positions needs a backbone with positions, got {type(backbone).__name__}; take a "
                    "ViTBackbone, or fixed_positions=False"
                )
            backbone.fix_positions()
        self.loss_weights = {"contrast": 1.0}
        self.temperature = temperature
        self.backbone = backbone
        self.projection = _head(backbone.num_features, embedding_dim, (hidden_dim, hidden_dim))
        self.prediction = _head(embedding_dim, embedding_dim, (hidden_dim,))
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(backbone), "projection": frozen_copy(self.projection)})

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "contrast" of ``view_1`` and ``view_2`` (B, C, H, W[, D]).

        Args:
            batch: what :class:`RandContrastViewsd` makes, collated.
            progress: not used.

        Returns:
            The one term.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape, or for a batch of one.
        """
        view_1, view_2 = self.get_view_pair(batch, at_least=2)
        # the heads one view after the other: each is normalized by its own statistics
        q_1, q_2 = (
            _unit(self.prediction(self.projection(mean_token(feature_map))))
            for feature_map in self.forward_together(self.backbone, view_1, view_2)
        )
        with torch.no_grad():
            k_1, k_2 = (
                gather_rows(_unit(self.teacher["projection"](mean_token(feature_map))))
                for feature_map in self.forward_together(self.teacher["backbone"], view_1, view_2)
            )
        rank, processes = get_rank_and_world_size()
        own = torch.arange(len(q_1), device=q_1.device) * processes + rank  # rows of the joint batch
        contrast = batch_info_nce(q_1, k_2, own, self.temperature) + batch_info_nce(q_2, k_1, own, self.temperature)
        return {"contrast": 2 * self.temperature * contrast}

    def export_networks(self) -> dict[str, nn.Module]:
        """Keep the student's backbone."""
        return {"encoder": self.backbone}


def _head(in_features: int, out_features: int, hidden_features: tuple[int, ...]) -> ExpanderHead:
    """Linear and BatchNorm in every layer; the last one has no ReLU, and a normalization without weight and bias."""
    head = ExpanderHead(
        in_features, out_features, hidden_features, bias=False, final_norm=True, running_statistics=False
    )
    head[-1].requires_grad_(False)
    return head


def _unit(embedding: Tensor) -> Tensor:
    """(B, D) -> unit vectors, float32 also under autocast."""
    return F.normalize(at_least_float32(embedding), dim=1)
