"""Soft matching loss between the tokens of two crops."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import at_least_float32

__all__ = ["matching_cross_entropy"]


def matching_cross_entropy(logits: Tensor, targets: Tensor, positive_weight: float) -> Tensor:
    r"""Compute the weighted binary cross-entropy between predicted and soft target matches.

    .. math:: \frac{1}{BNM} \sum_{bij} \bigl[\alpha y + (1 - \alpha)(1 - y)\bigr]
        \bigl[-y \log \sigma(z) - (1 - y) \log(1 - \sigma(z))\bigr]

    This is the matrix matching of ACE (arXiv:2501.10131). The weight multiplies the whole cross-entropy of the soft
    target, not each of its two terms.

    Args:
        logits: predicted matches z (B, N, M).
        targets: soft matches y (B, N, M) in [0, 1], see :func:`~monai_anat.transforms.soft_match_targets`. They receive
            no gradient.
        positive_weight: alpha in [0, 1]; 0.99 (decomposition) and 0.9 (composition) in ACE. A value of 0.5 gives half
            the plain cross-entropy.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes differ or the weight is outside [0, 1].

    >>> import torch
    >>> matching_cross_entropy(torch.zeros(1, 1, 2), torch.tensor([[[0.0, 1.0]]]), 0.5).item()  # log(2) / 2
    0.3465735912322998
    """
    if logits.shape != targets.shape:
        raise ValueError(
            f"logits and targets must have the same shape (B, N, M), got {tuple(logits.shape)} and "
            f"{tuple(targets.shape)}; "
            "pass the grids of both sets of tokens to soft_match_targets"
        )
    if not 0 <= positive_weight <= 1:
        raise ValueError(f"positive_weight must be in [0, 1], got {positive_weight}; ACE uses 0.99 and 0.9")
    logits = at_least_float32(logits)
    targets = targets.detach().to(logits.dtype)
    weight = (2 * positive_weight - 1) * targets + (1 - positive_weight)
    return F.binary_cross_entropy_with_logits(logits, targets, weight=weight)
