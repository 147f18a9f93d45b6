"""MoCo v3: momentum contrast within the batch."""

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
    r"""Momentum contrast within the batch, for vision transformers.

    The student's backbone, projection and prediction compute queries :math:`q_1, q_2` of two views. The moving averages
    of backbone and projection compute keys :math:`k_1, k_2`. All have unit length. The term "contrast" is

    .. math:: 2 \tau \,\big[\mathrm{ctr}(q_1, k_2) + \mathrm{ctr}(q_2, k_1)\big], \qquad
        \mathrm{ctr}(q, k) = -\frac{1}{B} \sum_b \log \frac{e^{q_b k_b / \tau}}{\sum_j e^{q_b k_j / \tau}}

    where j runs over the images of all processes: Chen, Xie and He, "An Empirical Study of Training Self-Supervised
    Vision Transformers", ICCV 2021, arXiv:2104.02057, equation 1 and algorithm 1. The views are
    :class:`RandContrastViewsd` with ``appearance=asymmetric_appearances()``. Negatives are images of the same batch, so
    micro-batches change them. All heads, the teacher's included, normalize by the batch over all processes.

    Differs from the paper: the embedding of a ViT is the mean of its patches and not a class token; batch normalization
    inside the teacher's backbone (ResNet) uses running statistics.

    Args:
        backbone: any backbone, 2D or 3D; ViT in the paper.
        embedding_dim: width of queries and keys.
        hidden_dim: width of the hidden layers, two of the projection and one of the prediction.
        temperature: :math:`\tau`.
        frozen_patch_embedding: do not train the patch embedding of a ViT, which stabilizes training (section 4.2 of the
            paper).
        fixed_positions: replace the positions of a ViT by fixed sine-cosine positions, as published. Use False for a
            backbone with pre-trained weights.

    Raises:
        ValueError: if the temperature is not positive, a width is below 1, or the backbone has no patch embedding to
            freeze or no positions to fix; when called, if the views differ in shape or the batch holds one image.

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
            raise ValueError(f"temperature must be positive, got {temperature}; MoCo v3 uses 0.2")
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
            batch: collated items of :class:`RandContrastViewsd`.
            progress: not used.

        Returns:
            The unweighted term.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape, or the batch of all processes holds one image.
        """
        view_1, view_2 = self.get_view_pair(batch, at_least=2)
        # heads get one view at a time: each is normalized by its own statistics
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
        """Return the student's backbone."""
        return {"encoder": self.backbone}


def _head(in_features: int, out_features: int, hidden_features: tuple[int, ...]) -> ExpanderHead:
    """Make a head of linear layers with batch normalization; the last has no ReLU and no affine norm."""
    head = ExpanderHead(
        in_features, out_features, hidden_features, bias=False, final_norm=True, running_statistics=False
    )
    head[-1].requires_grad_(False)
    return head


def _unit(embedding: Tensor) -> Tensor:
    """Scale embeddings (B, D) to unit length, in float32 even under autocast."""
    return F.normalize(at_least_float32(embedding), dim=1)
