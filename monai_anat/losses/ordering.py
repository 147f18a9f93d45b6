"""Patch order prediction loss."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import at_least_float32

__all__ = ["order_cross_entropy"]


def order_cross_entropy(logits: Tensor, order: Tensor) -> Tensor:
    """Compute the mean cross-entropy of the predicted original position of every patch.

    Position j of the shuffled image shows the original patch ``order[j]``, and this index is the class (POPAR, Pang et
    al., DART 2022; PEAC, arXiv:2312.00335). For unshuffled samples the order is the identity. Uniform logits give a
    loss of ln N, which is 5.278 for 14 x 14 patches.

    Args:
        logits: (B, N, N), one row of N class scores per position.
        order: (B, N) int64, permutations of 0..N-1.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes do not match.

    >>> import torch
    >>> order = torch.tensor([[2, 0, 1]])
    >>> round(order_cross_entropy(torch.zeros(1, 3, 3), order).item(), 4)
    1.0986
    """
    if order.ndim != 2 or logits.shape != (*order.shape, order.shape[1]):
        raise ValueError(
            f"logits must be (B, N, N) and order (B, N), got {tuple(logits.shape)} and {tuple(order.shape)}; "
            "the grid of the views must have as many cells as the backbone has tokens"
        )
    logits = at_least_float32(logits)
    return F.cross_entropy(logits.flatten(0, 1), order.flatten())  # (B*N, N), (B*N,)
