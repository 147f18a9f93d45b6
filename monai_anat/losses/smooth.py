"""The smooth L1 distance: squared for small differences, absolute for large ones."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import same_precision

__all__ = ["smooth_l1"]


def smooth_l1(predicted: Tensor, target: Tensor, counted: Tensor | None = None) -> Tensor:
    r"""Average :math:`d^2 / 2` where :math:`|d| < 1`, else :math:`|d| - 1/2`, over all entries or those that count.

    Lamps (arXiv 2512.22872) compares embeddings by it: the context decoder's tokens, with the missing cells counted,
    composed wholes and decomposed parts.

    Differs from the released code: the mean over the missing tokens is over these alone. There, the tokens that the
    network was shown add zeros to it, which makes it 75/196 of this value for 75 missing of 196 cells.

    Args:
        predicted: (B, ..., D).
        target: of the same shape; a gradient flows wherever it requires one, so detach the teacher's.
        counted: of the shape without D, True where an embedding counts; None counts all. 0 if none counts.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes do not fit together.

    >>> import torch
    >>> smooth_l1(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]), torch.tensor([True, False])).item()
    0.5
    """
    if predicted.shape != target.shape:
        raise ValueError(
            f"predicted and target must have one shape, got {tuple(predicted.shape)} and {tuple(target.shape)}"
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
