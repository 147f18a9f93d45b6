"""Smooth L1 loss with a mask."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import same_precision

__all__ = ["smooth_l1"]


def smooth_l1(predicted: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
    r"""Compute the mean of :math:`d^2 / 2` where :math:`|d| < 1`, else :math:`|d| - 1/2`, over the selected embeddings.

    Lamps (arXiv:2512.22872) uses it for the missing tokens of the context decoder, for composed wholes and for
    decomposed parts.

    Differs from the released code: the mean is over the missing tokens alone. In the released code the visible tokens
    add zeros, which scales the loss by 75/196 for 75 missing cells out of 196.

    Args:
        predicted: predicted embeddings (B, ..., D).
        target: target embeddings of the same shape. Detach the teacher's, since gradients flow into both arguments.
        counted: (B, ...) bool, True for embeddings to include; None includes all. The loss is 0 if none is included.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes do not match.

    >>> import torch
    >>> smooth_l1(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]), torch.tensor([True, False])).item()
    0.5
    """
    if predicted.shape != target.shape:
        raise ValueError(
            f"predicted and target must have the same shape, got {tuple(predicted.shape)} and {tuple(target.shape)}"
        )
    predicted, target = same_precision(predicted, target)
    if counted is None:
        return F.smooth_l1_loss(predicted, target)
    if counted.shape != predicted.shape[:-1]:
        raise ValueError(
            f"counted must be {tuple(predicted.shape[:-1])}, one entry for each embedding, got {tuple(counted.shape)}"
        )
    distance = F.smooth_l1_loss(predicted, target, reduction="none").mean(-1)
    return distance.masked_fill(~counted, 0.0).sum() / counted.sum().clamp(min=1)
