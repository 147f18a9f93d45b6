"""MoCo v2: momentum contrast with a queue."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from monai_anat.methods.base import TeacherStudentMethod
from monai_anat.methods.momentum_contrast import MomentumContrast
from monai_anat.methods.parts import frozen_copy
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.schedules import Progress

__all__ = ["MoCoV2Method"]


class MoCoV2Method(TeacherStudentMethod):
    r"""Momentum contrast, the baseline of the contrastive anatomy methods.

    With query :math:`q` (student, view 1), key :math:`k` (teacher, view 2) and the queue :math:`n_j` of earlier keys,
    all of unit length, the term "contrast" is

    .. math:: -\log \frac{e^{q k / \tau}}{e^{q k / \tau} + \sum_j e^{q n_j / \tau}}

    averaged over the batch: He et al., "Momentum Contrast for Unsupervised Visual Representation Learning", CVPR 2020,
    arXiv:1911.05722, equation 1, with the head and the augmentation of Chen et al., 2020, arXiv:2003.04297. The views
    are :class:`RandContrastViewsd`. :class:`AdamMethod` contrasts anatomical cells in the same way, with a pruned
    queue.

    Differs from the released code: see :class:`~monai_anat.methods.momentum_contrast.MomentumContrast`.

    Args:
        backbone: any backbone, 2D or 3D; ResNet-50 in the paper.
        embedding_dim: width of queries and keys.
        hidden_dim: width of the projection's hidden layer; the channels of the backbone if None.
        queue_size: number of keys in the queue, a multiple of the batch size over all processes.
        temperature: :math:`\tau`.

    Raises:
        ValueError: if the queue has no rows, or the temperature is not positive.

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
        super().__init__()
        self.loss_weights = {"contrast": 1.0}
        self.contrast = MomentumContrast(
            backbone.num_features,
            embedding_dim=embedding_dim,
            hidden_dim=hidden_dim,
            queue_size=queue_size,
            temperature=temperature,
        )
        self.backbone = backbone
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(backbone)})

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        """Compute "contrast" of ``view_1`` and ``view_2`` (B, C, H, W[, D]).

        Args:
            batch: collated items of :class:`RandContrastViewsd`.
            progress: not used.

        Returns:
            The unweighted term.

        Raises:
            KeyError: if a view is missing.
            ValueError: if the views differ in shape.
        """
        view_1, view_2 = self.get_view_pair(batch)
        student_map = self.backbone(view_1)
        with torch.no_grad():
            teacher_map = self.teacher["backbone"](view_2)
        return {"contrast": self.contrast(student_map, teacher_map)}

    def after_step(self, progress: Progress) -> None:
        """Put the keys of the step into the queue."""
        self.contrast.enqueue()

    def export_networks(self) -> dict[str, nn.Module]:
        """Return the student's backbone."""
        return {"encoder": self.backbone}
