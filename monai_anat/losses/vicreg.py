"""Variance, invariance and covariance terms of VICReg."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import at_least_float32

__all__ = ["variance_covariance", "vicreg_covariance", "vicreg_invariance", "vicreg_variance"]


def vicreg_invariance(z_1: Tensor, z_2: Tensor) -> Tensor:
    """Compute the mean squared difference between the embeddings of two views.

    VICReg (Bardes et al., ICLR 2022, arXiv:2105.04906), equation 5, divided by D as in its code.

    Args:
        z_1: embeddings (B, D) of view 1.
        z_2: embeddings (B, D) of view 2.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the two do not have the same shape (B, D).

    >>> vicreg_invariance(torch.zeros(2, 4), torch.full((2, 4), 3.0)).item()
    9.0
    """
    if z_1.ndim != 2 or z_1.shape != z_2.shape:
        raise ValueError(
            f"z_1 and z_2 must both be (B, D), got {tuple(z_1.shape)} and {tuple(z_2.shape)}; pool feature maps first"
        )
    return F.mse_loss(at_least_float32(z_1), at_least_float32(z_2))


def vicreg_variance(*embeddings: Tensor, eps: float = 1e-4) -> Tensor:
    r"""Compute a hinge loss that keeps the standard deviation of every dimension at 1 or more, averaged over views.

    .. math:: v(z) = \frac1D \sum_d \max\bigl(0, 1 - \sqrt{\mathrm{Var}(z_d) + \epsilon}\bigr)

    VICReg (arXiv:2105.04906), equations 1 and 2, with the unbiased variance (B - 1).

    Args:
        embeddings: embeddings (B, D) of each view, with B at least 2.
        eps: constant added to the variance, so that the square root is differentiable at 0.

    Returns:
        The mean of v over the views, a scalar, float32 or wider.

    Raises:
        ValueError: if a view is not (B, D) or has only one row.

    >>> vicreg_variance(torch.tensor([[1.0, 5.0], [1.0, -5.0]])).item()  # the first dimension is constant
    0.4950000047683716
    """
    _check_rows("variance", embeddings)
    hinges = [F.relu(1.0 - torch.sqrt(at_least_float32(z).var(0) + eps)).mean() for z in embeddings]
    return torch.stack(hinges).mean()


def vicreg_covariance(*embeddings: Tensor) -> Tensor:
    r"""Compute the sum of the squared off-diagonal covariances, summed over views.

    .. math:: c(z) = \frac1D \sum_{i \ne j} C_{ij}^2, \qquad C = \frac{1}{B - 1} \bar z^\top \bar z

    VICReg (arXiv:2105.04906), equations 3 and 4. If the batch is smaller than D, the D x D matrix is not computed,
    since :math:`\lVert \bar z^\top \bar z \rVert_F = \lVert \bar z \bar z^\top \rVert_F` and the diagonal of C is the
    variance. This costs B * B * D operations instead of B * D * D.

    Args:
        embeddings: embeddings (B, D) of each view, with B at least 2.

    Returns:
        The sum of c over the views, a scalar, float32 or wider.

    Raises:
        ValueError: if a view is not (B, D) or has only one row.

    >>> vicreg_covariance(torch.tensor([[1.0, 1.0], [-1.0, -1.0]])).item()  # C is 2 everywhere
    4.0
    """
    _check_rows("covariance", embeddings)
    return torch.stack([_off_diagonal(at_least_float32(z)) / z.shape[1] for z in embeddings]).sum()


def variance_covariance(
    z_1: Tensor,
    z_2: Tensor,
    invariance_weight: float = 25,
    variance_weight: float = 25,
    covariance_weight: float = 1,
    eps: float = 1e-4,
) -> Tensor:
    """Compute the weighted sum of the three terms of VICReg.

    ``invariance_weight * vicreg_invariance(z_1, z_2) + variance_weight * vicreg_variance(z_1, z_2) + covariance_weight
    * vicreg_covariance(z_1, z_2)``: VICReg (Bardes et al., ICLR 2022, arXiv:2105.04906), equation 6, as MLVICX
    (arXiv:2403.11504) applies it to its global and to its local embedding. The variance is averaged over views and the
    covariance is summed, as in the code of both. The statistics are those of the given rows, so gather the rows of all
    processes first (:func:`monai_anat.distributed.gather_rows`).

    Args:
        z_1: embeddings (B, D) of view 1, with B at least 2.
        z_2: embeddings (B, D) of view 2.
        invariance_weight: weight of the invariance term.
        variance_weight: weight of the variance term.
        covariance_weight: weight of the covariance term.
        eps: constant added to the variance under the square root.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes differ or there is only one row.

    >>> round(variance_covariance(torch.ones(2, 4), torch.ones(2, 4)).item(), 4)  # collapsed: 25 * (1 - 0.01)
    24.75
    """
    return (
        invariance_weight * vicreg_invariance(z_1, z_2)
        + variance_weight * vicreg_variance(z_1, z_2, eps=eps)
        + covariance_weight * vicreg_covariance(z_1, z_2)
    )


def _off_diagonal(z: Tensor) -> Tensor:
    """Sum of the squared off-diagonal entries of the covariance matrix (D, D) of z (B, D)."""
    rows, width = z.shape
    z = z - z.mean(0)
    # autocast's half precision is too coarse for squares of sums over the batch
    with torch.autocast(z.device.type, enabled=False):
        if rows >= width:
            matrix = z.T @ z / (rows - 1)  # (D, D)
            return matrix.fill_diagonal_(0.0).square().sum()
        gram = z @ z.T / (rows - 1)  # (B, B)
    diagonal = z.square().sum(0) / (rows - 1)  # (D,)
    # rounding may leave this difference of two sums below 0, where the true value (and gradient) is 0
    return (gram.square().sum() - diagonal.square().sum()).clamp(min=0.0)


def _check_rows(term: str, embeddings: tuple[Tensor, ...]) -> None:
    shapes = [tuple(z.shape) for z in embeddings]
    if not shapes or any(len(shape) != 2 or shape[0] < 2 for shape in shapes):
        raise ValueError(
            f"{term} needs (B, D) with at least 2 rows for each view, got {shapes}; it is a batch statistic: use "
            f"a batch "
            "(and a micro_batch_size) of at least 2 images, and many more to learn from"
        )
