"""Cross-entropy with unknown labels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.precision import at_least_float32

__all__ = ["LabelCrossEntropyLoss", "label_cross_entropy"]


def label_cross_entropy(
    logits: Tensor, labels: Tensor, weight: Tensor | None = None, exclusive: bool = False
) -> Tensor:
    """Compute the cross-entropy over the known labels. Unknown labels (NaN) are ignored.

    For findings, this is the mean binary cross-entropy over all known labels. For exclusive classes, it is the mean
    cross-entropy over all images with a known class. Without any known label the loss is 0 and still differentiable.

    Args:
        logits: scores (B, C).
        labels: (B, C) in [0, 1], NaN where unknown; one-hot rows for exclusive classes.
        weight: (C,), weight of the positive labels (findings) or of the classes (exclusive). Class weights also
            normalize the mean.
        exclusive: whether each image belongs to exactly one class.


    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes differ.

    >>> label_cross_entropy(torch.zeros(1, 2), torch.tensor([[1.0, float("nan")]])).item()  # ln 2
    0.6931471824645996
    """
    if logits.shape != labels.shape:
        raise ValueError(
            f"labels must have the shape of logits, one column per class, got {tuple(labels.shape)} and "
            f"{tuple(logits.shape)}; read them with data.read_class_labels"
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
    """Module form of :func:`label_cross_entropy`.

    Args:
        weight: (C,), such as ``data.class_weights`` returns; None gives all classes the same weight.
        exclusive: whether each image belongs to exactly one class.

    >>> LabelCrossEntropyLoss(exclusive=True)(torch.zeros(1, 4), torch.tensor([[0.0, 1.0, 0.0, 0.0]])).item()  # ln 4
    1.3862943649291992
    """

    weight: Tensor | None

    def __init__(self, weight: Tensor | None = None, exclusive: bool = False) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.exclusive = exclusive

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss of logits (B, C) and labels (B, C)."""
        return label_cross_entropy(logits, labels, self.weight, self.exclusive)
