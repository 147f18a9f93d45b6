"""Effective rank and spread of embeddings, which show a collapse."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["effective_rank", "feature_spread"]


def effective_rank(embeddings: Tensor, center: bool = True) -> float:
    r"""Compute the effective number of dimensions that a set of embeddings uses.

    This is the exponential of the entropy of the normalized singular values :math:`p_k = \sigma_k / \sum_j \sigma_j`
    (Roy and Vetterli, EUSIPCO 2007; RankMe, arXiv:2210.02885, equation 1):

    .. math:: \exp\Bigl(-\sum_k p_k \log p_k\Bigr)

    It lies between 1 (one direction) and ``min(N, D)`` (all directions equally). Equal embeddings give 0. RankMe does
    not center the embeddings. Here the mean is subtracted by default, because a large component that all images share
    is itself a sign of collapse and would hide the rest.

    Args:
        embeddings: (N, D), one row per image or token.
        center: whether to subtract the mean embedding first.

    Raises:
        ValueError: if the embeddings are not (N, D) or not finite.

    >>> effective_rank(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    2.0
    >>> effective_rank(torch.ones(8, 16))
    0.0
    """
    rows = _checked(embeddings)
    largest = float(rows.abs().max())
    if center:
        rows = rows - rows.mean(dim=0)
    singular = torch.linalg.svdvals(rows)
    # rounding errors of the storage format are no directions; without this floor equal embeddings would use them all
    floor = largest * max(rows.shape) * torch.finfo(_precision(embeddings)).eps
    singular = singular[singular > floor]
    if singular.numel() == 0:
        return 0.0
    share = singular / singular.sum()
    return round(float(torch.exp(-(share * share.log()).sum())), 6)


def feature_spread(embeddings: Tensor) -> float:
    r"""Compute the spread of unit-length embeddings: about 1 for isotropic directions, 0 for equal embeddings.

    :math:`\sqrt{D}` times the mean over dimensions of the standard deviation of :math:`z / \lVert z \rVert` (SimSiam,
    arXiv:2011.10566, section 4.1, where :math:`1/\sqrt{D}` is the value of an isotropic Gaussian).

    Args:
        embeddings: (N, D), one row per image or token.

    Raises:
        ValueError: if the embeddings are not (N, D) or not finite.

    >>> round(feature_spread(torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))), 2)
    1.0
    >>> feature_spread(torch.ones(8, 16))
    0.0
    """
    rows = torch.nn.functional.normalize(_checked(embeddings), dim=1)
    spread = rows.std(dim=0, correction=0).mean() * rows.shape[1] ** 0.5
    return round(float(spread), 6)


def _precision(embeddings: Tensor) -> torch.dtype:
    return embeddings.dtype if embeddings.is_floating_point() else torch.float32


def _checked(embeddings: Tensor) -> Tensor:
    """Check the embeddings and return them detached, in double precision, on the CPU."""
    if embeddings.ndim != 2 or embeddings.numel() == 0:
        raise ValueError(
            f"embeddings must be (N, D) with one row per image, got shape {tuple(embeddings.shape)}; "
            "flatten tokens or pool a feature map first"
        )
    rows = embeddings.detach().to("cpu", torch.float64)
    if not torch.isfinite(rows).all():
        raise ValueError("embeddings must be finite, got NaN or infinity; the network has diverged")
    return rows
