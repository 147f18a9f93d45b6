"""Self-distillation over crops of several sizes, which DINO and Adam-v2 share."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_anat.losses.distillation import DistillationCenter
from monai_anat.losses.multi_view import multi_view_distillation
from monai_anat.methods.base import mean_token
from monai_anat.networks.heads.prototypes import PrototypeHead

__all__ = ["distill_views", "embed_crops", "embed_views"]


def embed_crops(network: nn.Module, crops: Tensor) -> tuple[Tensor, ...]:
    """Embed crops of one size in one forward pass, also where that is one batch to normalize.

    Args:
        network: a backbone, (B, C, h, w[, d]) -> (B, D, ...).
        crops: (B, V, C, h, w[, d]).

    Returns:
        Embeddings (B, D), the mean token, of each of the V crops.

    Raises:
        ValueError: for another number of axes.

    >>> [tuple(crop.shape) for crop in embed_crops(nn.Identity(), torch.zeros(2, 3, 1, 4, 4))]
    [(2, 1), (2, 1), (2, 1)]
    """
    if crops.ndim not in (5, 6):
        raise ValueError(f"local_views must be (B, V, C, h, w[, d]), got {tuple(crops.shape)}")
    embeddings = mean_token(network(crops.flatten(0, 1)))  # (B * V, D)
    separate: tuple[Tensor, ...] = embeddings.unflatten(0, crops.shape[:2]).unbind(1)
    return separate


def embed_views(
    student: nn.Module, teacher: nn.Module, view_1: Tensor, view_2: Tensor, local_views: Tensor
) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Show the student all views and the teacher the two large ones, in one forward pass per network and size.

    Args:
        student: backbone.
        teacher: backbone; no gradient flows into it.
        view_1: (B, C, H, W[, D]).
        view_2: of the same shape.
        local_views: (B, V, C, h, w[, d]), smaller crops.

    Returns:
        Embeddings (B, D) of the student, 2 + V of them, the large views first; and of the teacher, 2.

    Raises:
        ValueError: if the shapes do not fit.
    """
    if view_1.shape != view_2.shape:
        raise ValueError(f"view_1 and view_2 must have one shape, got {tuple(view_1.shape)} and {tuple(view_2.shape)}")
    large = torch.stack([view_1, view_2], 1)  # (B, 2, C, H, W)
    with torch.no_grad():
        taught = embed_crops(teacher, large)
    return (*embed_crops(student, large), *embed_crops(student, local_views)), taught


def distill_views(
    heads: tuple[PrototypeHead, nn.Module],
    center: DistillationCenter,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    temperatures: tuple[float, float],
    pairs: Sequence[tuple[int, int]],
    frozen_prototypes: bool = False,
) -> Tensor:
    """Score embeddings by prototypes and let the student's scores follow the teacher's; the center takes note.

    Args:
        heads: of the student and of the teacher.
        center: of the teacher's scores; observes them.
        student: embeddings (B, D) of each of its views.
        teacher: embeddings (B, D) of each of its views, without a gradient.
        temperatures: of the student and of the teacher.
        pairs: (teacher view, student view) each; :func:`~monai_anat.losses.distinct_pairs` for DINO.
        frozen_prototypes: leave the student's prototypes without a gradient.

    Returns:
        The scalar of :func:`~monai_anat.losses.multi_view_distillation`.
    """
    student_head, teacher_head = heads
    student_logits: Tensor = student_head(torch.cat(tuple(student)), frozen_prototypes=frozen_prototypes)
    with torch.no_grad():
        teacher_logits: Tensor = teacher_head(torch.cat(tuple(teacher)))
    center.observe(teacher_logits)
    views = student_logits.chunk(len(student)), teacher_logits.chunk(len(teacher))
    return multi_view_distillation(*views, center.center, *temperatures, pairs)
