"""Matching of tokens across scales: cross-entropy of which tokens of two crops show the same anatomy, softly."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import at_least_float32

__all__ = ["matching_cross_entropy"]


def matching_cross_entropy(logits: Tensor, targets: Tensor, positive_weight: float) -> Tensor:
    r"""Cross-entropy of soft matches, each match weighed by how much it is one; the mean over all entries.

    .. math:: \frac{1}{BNM} \sum_{bij} \bigl[\alpha y + (1 - \alpha)(1 - y)\bigr]
        \bigl[-y \log \sigma(z) - (1 - y) \log(1 - \sigma(z))\bigr]

    The matrix matching of ACE (arXiv:2501.10131). The weight stands before the whole cross-entropy of the soft
    target, not before each of its halves.

    Args:
        logits: (B, N, M), z.
        targets: (B, N, M) in [0, 1], y, without a gradient, see :func:`~monai_anat.transforms.soft_match_targets`.
        positive_weight: alpha in [0, 1]: .99 (decomposition) and .9 (composition) in ACE; .5 is half the plain
            cross-entropy.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: for tensors of different shapes or a weight outside [0, 1].

    >>> import torch
    >>> matching_cross_entropy(torch.zeros(1, 1, 2), torch.tensor([[[0.0, 1.0]]]), 0.5).item()  # log(2) / 2
    0.3465735912322998
    """
    if logits.shape != targets.shape:
        raise ValueError(
            f"logits and targets must be of one shape (B, N, M), got {tuple(logits.shape)} and {tuple(targets.shape)}; "
            "give soft_match_targets the grids of the two sets of tokens"
        )
    if not 0 <= positive_weight <= 1:
        raise ValueError(f"positive_weight must be in [0, 1], got {positive_weight}; ACE has 0.99 and 0.9")
    logits = at_least_float32(logits)
    targets = targets.detach().to(logits.dtype)
    weight = (2 * positive_weight - 1) * targets + (1 - positive_weight)
    return F.binary_cross_entropy_with_logits(logits, targets, weight=weight)
