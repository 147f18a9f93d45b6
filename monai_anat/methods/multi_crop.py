"""Embeddings of crops of several sizes, for DINO and Adam-v2."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from monai_anat.methods.base import mean_token

__all__ = ["embed_crops", "embed_views"]


def embed_crops(network: nn.Module, crops: Tensor) -> tuple[Tensor, ...]:
    """Embed crops of one size in one forward pass, which is one batch for layers that normalize by batch statistics.

    Args:
        network: backbone, (B, C, h, w[, d]) -> (B, D, ...).
        crops: V crops of each image (B, V, C, h, w[, d]).

    Returns:
        Embeddings (B, D) of each of the V crops, the mean token.

    Raises:
        ValueError: if the number of axes is neither 5 nor 6.

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
    """Embed all views by the student and the two large views by the teacher.

    Each network runs one forward pass per size of crop.

    Args:
        student: backbone of the student.
        teacher: backbone of the teacher; it gets no gradient.
        view_1: large view (B, C, H, W[, D]).
        view_2: large view of the same shape.
        local_views: V small crops of each image (B, V, C, h, w[, d]).

    Returns:
        2 + V embeddings (B, D) of the student, the large views first, and 2 embeddings (B, D) of the teacher.

    Raises:
        ValueError: if the views differ in shape.
    """
    if view_1.shape != view_2.shape:
        raise ValueError(f"view_1 and view_2 must have one shape, got {tuple(view_1.shape)} and {tuple(view_2.shape)}")
    large = torch.stack([view_1, view_2], 1)  # (B, 2, C, H, W)
    with torch.no_grad():
        taught = embed_crops(teacher, large)
    return (*embed_crops(student, large), *embed_crops(student, local_views)), taught
