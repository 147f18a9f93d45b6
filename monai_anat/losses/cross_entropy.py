"""Cross-entropy of class labels some of which are unknown."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.precision import at_least_float32

__all__ = ["LabelCrossEntropyLoss", "label_cross_entropy"]


def label_cross_entropy(
    logits: Tensor, labels: Tensor, weight: Tensor | None = None, exclusive: bool = False
) -> Tensor:
    """Cross-entropy of the labels that are known; unknown ones (NaN) have no part in it.

    Of findings, the binary cross-entropy of every known label, averaged over all of them; of exclusive classes, the
    cross-entropy of every image with a known class. Without a known label it is 0, with a gradient path.

    Args:
        logits: (B, C).
        labels: (B, C) in [0, 1], NaN where unknown; rows with one 1 for exclusive classes.
        weight: (C,) of the positives (findings), or of the classes, which then also divide the sum (exclusive).
        exclusive: whether exactly one class holds for an image.

    Returns:
        Scalar, at least float32.

    >>> label_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, float("nan")]])).item()  # ln 2
    0.6931471824645996
    """
    if logits.shape != labels.shape:
        raise ValueError(
            f"labels must have the shape of logits, one column per class, got {tuple(labels.shape)} and "
            f"{tuple(logits.shape)}; read them by data.read_class_labels"
        )
    logits, known = at_least_float32(logits), ~labels.isnan()
    labels = torch.where(known, labels, 0.0).to(logits.dtype)
    if exclusive:
        rows = known.all(1)
        factor = rows.float() * (1.0 if weight is None else (labels * weight).sum(1))  # (B,)
        total = F.cross_entropy(logits, labels, reduction="none") * factor
        return total.sum() / factor.sum().clamp(min=1e-12)
    each = F.binary_cross_entropy_with_logits(logits, labels, pos_weight=weight, reduction="none")
    return torch.where(known, each, 0.0).sum() / known.sum().clamp(min=1)


class LabelCrossEntropyLoss(nn.Module):
    """:func:`label_cross_entropy` with its weights.

    Args:
        weight: (C,), for instance of ``data.class_weights``; None weighs all alike.
        exclusive: whether exactly one class holds for an image.

    >>> LabelCrossEntropyLoss(exclusive=True)(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]])).item()  # ln 4
    1.3862943649291992
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, exclusive: bool = False) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.exclusive = exclusive

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Scalar of logits (B, C) and labels (B, C)."""
        return label_cross_entropy(logits, labels, self.weight, self.exclusive)
