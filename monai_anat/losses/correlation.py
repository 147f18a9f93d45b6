"""Cross-correlation losses of Barlow Twins."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_anat.precision import same_precision

__all__ = ["correlation_agreement", "correlation_redundancy", "redundancy_reduction"]


def correlation_agreement(z_1: Tensor, z_2: Tensor) -> Tensor:
    r"""Compute the invariance term of Barlow Twins, :math:`\sum_i (1 - C_{ii})^2`.

    C is the cross-correlation matrix of the two embeddings over the batch: Barlow Twins (Zbontar et al., ICML 2021,
    arXiv:2103.03230), equations 1 and 2.

    Differs from ``monai.losses.BarlowTwinsLoss``, which standardizes by the unbiased standard deviation and divides by
    B. Equal views then have (B - 1) / B on the diagonal and a loss of at least D / B^2, which is 8 for D = 8192 and
    B = 32. Here, as in the paper, the standard deviation is the biased one, and equal views give 0.

    Args:
        z_1: embeddings (B, D) of view 1, with B at least 2.
        z_2: embeddings (B, D) of view 2.

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
    r"""Compute the redundancy term of Barlow Twins, :math:`\sum_{i \ne j} C_{ij}^2`.

    Barlow Twins (arXiv:2103.03230), equations 1 and 2. If the batch is smaller than D, the D x D matrix is not
    computed: :math:`\lVert C \rVert_F^2` equals the sum of the elementwise product of the two B x B Gram matrices.

    Args:
        z_1: embeddings (B, D) of view 1, with B at least 2.
        z_2: embeddings (B, D) of view 2.

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
    # autocast's half precision is too coarse for these sums
    with torch.autocast(z_1.device.type, enabled=False):
        if rows >= width:
            matrix = z_1.T @ z_2 / rows  # (D, D)
            return matrix.fill_diagonal_(0.0).square().sum()
        total = (z_1 @ z_1.T * (z_2 @ z_2.T)).sum() / rows**2
    # rounding may leave this difference of two sums below 0, where the true value (and gradient) is 0
    return (total - _diagonal(z_1, z_2).square().sum()).clamp(min=0.0)


def redundancy_reduction(z_1: Tensor, z_2: Tensor, redundancy_weight: float = 5e-3) -> Tensor:
    """Compute the loss of Barlow Twins (arXiv:2103.03230), equation 1.

    Args:
        z_1: embeddings (B, D) of view 1, with B at least 2. With several processes, gather the rows of all of them
            first.
        z_2: embeddings (B, D) of view 2.
        redundancy_weight: weight of the off-diagonal entries.

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
    """Correlation (D,) of each dimension with itself, of two standardized embeddings."""
    return (z_1 * z_2).mean(0)


def _standardized(z_1: Tensor, z_2: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Scale both embeddings to mean 0 and (biased) variance 1 over the batch. A constant dimension becomes 0."""
    if z_1.ndim != 2 or z_1.shape != z_2.shape or len(z_1) < 2:
        raise ValueError(
            f"z_1 and z_2 must both be (B, D) with at least 2 rows, got {tuple(z_1.shape)} and {tuple(z_2.shape)}; the "
            "correlation is a batch statistic: use at least 2 images per batch, and many more to learn from"
        )
    pair = same_precision(z_1, z_2)
    first, second = ((z - z.mean(0)) * torch.rsqrt(z.var(0, correction=0) + eps) for z in pair)
    return first, second
