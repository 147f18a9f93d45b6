"""Adversarial loss terms of a discriminator and a restoring network."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import at_least_float32

__all__ = ["discriminator_loss", "generator_loss"]

_Criterion = Literal["least_squares", "bce"]


def generator_loss(restored_scores: Tensor, criterion: _Criterion = "least_squares") -> Tensor:
    r"""Compute the adversarial loss of the restoring network.

    It is small if the discriminator takes restored images for real ones.
    Least squares: :math:`E[(D(\hat x) - 1)^2]` (Mao et al., ICCV 2017, arXiv:1611.04076, equation 9 with c = 1), the
    adversarial term of DiRA (Haghighi et al., CVPR 2022, arXiv:2204.10437). Cross-entropy:
    :math:`-E[\log \sigma(D(\hat x))]` (Goodfellow et al., arXiv:1406.2661, the non-saturating form), as written in the
    paper.

    MONAI's ``PatchAdversarialLoss`` with ``no_activation_leastsq=True`` gives the same values in float32. Its ``bce``
    takes the logarithm of a sigmoid, which overflows in half precision, so both are written out here.

    Args:
        restored_scores: discriminator logits for restored images, of any shape. Freeze the weights of the
            discriminator while computing them.
        criterion: "least_squares" or "bce".

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the criterion is unknown.

    >>> generator_loss(torch.full((2, 1, 4, 4), 0.5)).item()
    0.25
    """
    return _distance(restored_scores, 1.0, criterion)


def discriminator_loss(real_scores: Tensor, restored_scores: Tensor, criterion: _Criterion = "least_squares") -> Tensor:
    r"""Compute the loss of the discriminator.

    Least squares: :math:`\tfrac12 (E[(D(x) - 1)^2] + E[D(\hat x)^2])`; cross-entropy:
    :math:`-\tfrac12 (E[\log \sigma(D(x))] + E[\log(1 - \sigma(D(\hat x)))])`. Sources as in :func:`generator_loss`.

    Args:
        real_scores: discriminator logits for real images, of any shape.
        restored_scores: discriminator logits for restored images, of any shape. Detach the images first.
        criterion: "least_squares" or "bce".

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the criterion is unknown.

    >>> discriminator_loss(torch.ones(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)).item()
    0.0
    """
    return (_distance(real_scores, 1.0, criterion) + _distance(restored_scores, 0.0, criterion)) / 2


def _distance(scores: Tensor, label: float, criterion: _Criterion) -> Tensor:
    if criterion not in ("least_squares", "bce"):
        raise ValueError(f'criterion must be "least_squares" or "bce", got {criterion!r}; DiRA uses least squares')
    scores = at_least_float32(scores)
    if criterion == "least_squares":
        return (scores - label).square().mean()
    return F.binary_cross_entropy_with_logits(scores, torch.full_like(scores, label))
