"""Cross-correlation of two views over the batch: each dimension agrees with itself and repeats no other."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_anat.precision import same_precision

__all__ = ["correlation_agreement", "correlation_redundancy", "redundancy_reduction"]


def correlation_agreement(z_1: Tensor, z_2: Tensor) -> Tensor:
    r"""Say how far each dimension is from being the same in both views: :math:`\sum_i (1 - C_{ii})^2`.

    C is the cross-correlation matrix of the two embeddings over the batch: Barlow Twins (Zbontar et al., ICML 2021,
    arXiv:2103.03230), equations 1 and 2, the invariance term.

    Differs from ``monai.losses.BarlowTwinsLoss``: that one standardizes by the unbiased deviation and divides by B, so
    that equal views have (B - 1) / B on the diagonal and a loss of at least D / B^2, 8 at D 8192 and B 32. Here, as in
    the paper, the deviation is the biased one and equal views give 0.

    Args:
        z_1: (B, D), B at least 2.
        z_2: (B, D).

    Returns:
        A scalar, float32 or wider, from 0 to 4 D.

    Raises:
        ValueError: if the shapes differ or there is only one row.

    >>> z = torch.tensor([[1.0, 2.0], [-1.0, 0.0]])
    >>> round(correlation_agreement(z, -z).item(), 2)
    8.0
    """
    return (1.0 - _diagonal(*_standardized(z_1, z_2))).square().sum()


def correlation_redundancy(z_1: Tensor, z_2: Tensor) -> Tensor:
    r"""Say how far dimensions repeat each other across the views: :math:`\sum_{i \ne j} C_{ij}^2`.

    Barlow Twins (arXiv:2103.03230), equations 1 and 2, the redundancy reduction term. Where the batch is smaller than
    D, the D x D matrix is never made: :math:`\lVert C \rVert_F^2` is the sum of the products of the two B x B Gram
    matrices, entry by entry. The value is the same.

    Args:
        z_1: (B, D), B at least 2.
        z_2: (B, D).

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes differ or there is only one row.

    >>> z = torch.tensor([[1.0, 1.0], [-1.0, -1.0]])
    >>> round(correlation_redundancy(z, z).item(), 2)
    2.0
    """
    z_1, z_2 = _standardized(z_1, z_2)
    rows, width = z_1.shape
    # not in the half precision of autocast
    with torch.autocast(z_1.device.type, enabled=False):
        if rows >= width:
            matrix = z_1.T @ z_2 / rows  # (D, D)
            return matrix.fill_diagonal_(0.0).square().sum()
        total = (z_1 @ z_1.T * (z_2 @ z_2.T)).sum() / rows**2
    # a difference of two sums: rounding may leave it below 0, where the true value (and gradient) is 0
    return (total - _diagonal(z_1, z_2).square().sum()).clamp(min=0.0)


def redundancy_reduction(z_1: Tensor, z_2: Tensor, redundancy_weight: float = 5e-3) -> Tensor:
    """Add up the two terms of Barlow Twins (arXiv:2103.03230), equation 1.

    Args:
        z_1: (B, D), B at least 2; with several processes the rows of all of them.
        z_2: (B, D).
        redundancy_weight: of the entries off the diagonal.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes differ or there is only one row.

    >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # equal views, no redundancy
    >>> round(redundancy_reduction(z, z).item(), 6)
    0.0
    """
    return correlation_agreement(z_1, z_2) + redundancy_weight * correlation_redundancy(z_1, z_2)


def _diagonal(z_1: Tensor, z_2: Tensor) -> Tensor:
    """(D,), the correlation of each dimension of two standardized embeddings with itself."""
    return (z_1 * z_2).mean(0)


def _standardized(z_1: Tensor, z_2: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Both embeddings with mean 0 and (biased) variance 1 over the batch; a constant dimension becomes 0."""
    if z_1.ndim != 2 or z_1.shape != z_2.shape or len(z_1) < 2:
        raise ValueError(
            f"z_1 and z_2 must both be (B, D) with at least 2 rows, got {tuple(z_1.shape)} and {tuple(z_2.shape)}; the "
            "correlation is a statistic over the batch: use a batch of 2 images or more, and far more to learn from"
        )
    pair = same_precision(z_1, z_2)
    first, second = ((z - z.mean(0)) * torch.rsqrt(z.var(0, correction=0) + eps) for z in pair)
    return first, second
