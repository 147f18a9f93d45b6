"""Decorrelation of tokens around their mean."""

from __future__ import annotations

from torch import Tensor

from monai_anat.losses.vicreg import vicreg_covariance, vicreg_variance

__all__ = ["token_whitening"]


def token_whitening(tokens: Tensor, covariance_weight: float = 0.04) -> Tensor:
    r"""Compute a penalty for tokens that share a common vector or repeat one channel in another.

    .. math:: \frac1D \sum_c \max\bigl(0, 1 - \sqrt{\mathrm{Var}_c + 10^{-4}}\bigr) +
        \frac{w}{D} \sum_{c \ne d} \mathrm{Cov}_{cd}^2

    These are the variance and covariance terms of VICReg (Bardes et al., ICLR 2022, arXiv:2105.04906) at their ratio of
    25 to 1. Give tokens that are layer-normalized without parameters: their mean square is 1, so that the variance term
    vanishes only if the mean token does.

    Args:
        tokens: tokens (R, D), with R at least 2. The covariance needs R of at least 2 D to be meaningful.
        covariance_weight: w.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the tokens are not (R, D) or there is only one.

    >>> import torch
    >>> round(token_whitening(torch.ones(4, 2)).item(), 4)
    0.99
    """
    variance = vicreg_variance(tokens)
    return variance + covariance_weight * vicreg_covariance(tokens) if covariance_weight else variance
