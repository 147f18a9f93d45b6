"""Composition and decomposition losses between parts and wholes."""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import same_precision

__all__ = ["composition_distance", "decomposition_distance"]


def composition_distance(composed: Tensor, whole: Tensor, reduction: Literal["sum", "mean"] = "sum") -> Tensor:
    r"""Compute the squared distance between the directions of a composed and an observed whole.

    .. math:: \frac{1}{B} \sum_b \Big\lVert \frac{c_b}{\lVert c_b \rVert} - \frac{w_b}{\lVert w_b \rVert} \Big\rVert^2
        = \frac{1}{B} \sum_b (2 - 2 \cos(c_b, w_b))

    This is the composability term of Adam-v2 (Hosseinzadeh Taher et al., CVPR 2024, arXiv:2404.15672), from 0 to 4.

    Differs from the released code: the squares are summed over the D entries of an embedding. The released code takes
    their mean (``reduction="mean"``), which is at most 4 / D. Beside the localizability term of about ln 65536, such a
    value hardly affects the backbone.

    Args:
        composed: (B, D), the student's prediction of the whole from its parts.
        whole: (B, D), the teacher's embedding of the whole. It receives no gradient.
        reduction: "sum" or "mean" over D.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the two do not have the same shape (B, D), or the reduction is unknown.

    >>> import torch
    >>> a = torch.tensor([[1.0, 0.0]])
    >>> composition_distance(a, 3 * a).item(), composition_distance(a, -a).item()
    (0.0, 4.0)
    """
    if composed.ndim != 2 or composed.shape != whole.shape:
        raise ValueError(
            f"composed and whole must both be (B, D), got {tuple(composed.shape)} and {tuple(whole.shape)}; "
            "CompositionHead computes one embedding from all parts"
        )
    return _mean_distance(composed, whole, reduction)


def decomposition_distance(decomposed: Tensor, parts: Tensor, reduction: Literal["sum", "mean"] = "sum") -> Tensor:
    r"""Compute the squared distance between the directions of decomposed and observed parts.

    .. math:: \frac{1}{BP} \sum_{b,i}
        \Big\lVert \frac{d_{bi}}{\lVert d_{bi} \rVert} - \frac{p_{bi}}{\lVert p_{bi} \rVert} \Big\rVert^2

    This is the decomposability term of Adam-v2 (Hosseinzadeh Taher et al., CVPR 2024, arXiv:2404.15672), from 0 to 4.

    Differs from the released code: every predicted part is scaled to unit length. The released code scales all P parts
    together, so that even a perfect prediction scores :math:`(1 - 1/\sqrt{P})^2` per part. With P = 4 and the mean
    over D = 2048, this is 1.22e-4, a fifth of the value at random initialization. The squares are summed over D, as in
    :func:`composition_distance`.

    Args:
        decomposed: (B, P, D), the student's prediction of the parts from the whole.
        parts: (B, P, D), the teacher's embeddings of the parts. They receive no gradient.
        reduction: "sum" or "mean" over D.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the two do not have the same shape (B, P, D), or the reduction is unknown.

    >>> import torch
    >>> parts = torch.eye(4)[None]
    >>> decomposition_distance(2 * parts, parts).item(), decomposition_distance(parts.flip(1), parts).item()
    (0.0, 2.0)
    """
    if decomposed.ndim != 3 or decomposed.shape != parts.shape:
        raise ValueError(
            f"decomposed and parts must both be (B, P, D), got {tuple(decomposed.shape)} and {tuple(parts.shape)}; "
            "DecompositionHead computes one embedding for each part"
        )
    return _mean_distance(decomposed, parts, reduction)


def _mean_distance(predicted: Tensor, target: Tensor, reduction: str) -> Tensor:
    """Squared distance of the unit vectors along the last axis, averaged over all other axes."""
    if reduction not in ("sum", "mean"):
        raise ValueError(f'reduction must be "sum" or "mean" (over the entries of an embedding), got {reduction!r}')
    predicted, target = (F.normalize(x, dim=-1) for x in same_precision(predicted, target.detach()))
    squares = (predicted - target).square()
    return (squares.sum(-1) if reduction == "sum" else squares.mean(-1)).mean()
