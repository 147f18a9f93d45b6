"""Contrast of matched cells with soft positional negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_anat.precision import same_precision

__all__ = ["soft_positional_contrast"]


def soft_positional_contrast(
    query: Tensor,
    keys: Tensor,
    positions: Tensor,
    match: Tensor,
    temperature: float = 0.2,
    sigma: float = 0.06,
    denominator: Tensor | float | None = None,
) -> Tensor:
    r"""Compute InfoNCE over cells, with negatives weighted by their distance from the match in the radiograph.

    .. math:: \frac{1}{|M|} \sum_{i \in M} \Big[ \log \Big( e^{q_i k_{a(i)} / \tau} + \sum_{j \ne a(i)} w_{ij}
        e^{q_i k_j / \tau} \Big) - \frac{q_i k_{a(i)}}{\tau} \Big], \qquad
        w_{ij} = 1 - e^{-\lVert u_{a(i)} - u_j \rVert^2 / (2 \sigma^2)}

    with the key :math:`a(i)` that shows the pixels of query i, and the position :math:`u_j` of key j. Keys at the
    position of the match, such as those of other patients, are left out of the negatives. The loss is InfoNCE in the
    limit :math:`\sigma \to 0` if no two keys share a position, and :math:`\log(1 + \sum_j w_{ij})` if all embeddings
    are equal.

    Args:
        query: embeddings (M, D) of unit length.
        keys: embeddings (K, D) of unit length, from all images and processes. They receive no gradient.
        positions: center (K, d) of the cell of each key, in [0, 1] of the whole image. It receives no gradient.
        match: index (M,) of the key that shows the pixels of each query, or -1.
        temperature: :math:`\tau`.
        sigma: :math:`\sigma`, in the unit of the positions.
        denominator: divisor of the sum; the number of matched queries if None.

    Returns:
        A scalar, float32 or wider; 0 if no query has a match.

    Raises:
        ValueError: if the shapes do not match, or the temperature or sigma is not positive.

    >>> unit = torch.eye(2)
    >>> soft_positional_contrast(unit, unit, torch.zeros(2, 2), torch.tensor([0, 1])).item()
    0.0
    """
    if (
        query.ndim != 2
        or keys.ndim != 2
        or query.shape[1] != keys.shape[1]
        or positions.ndim != 2
        or len(positions) != len(keys)
        or match.shape != query.shape[:1]
    ):
        raise ValueError(
            "query must be (M, D), keys (K, D), positions (K, d) and match (M,), got "
            f"{tuple(query.shape)}, {tuple(keys.shape)}, {tuple(positions.shape)} and {tuple(match.shape)}"
        )
    if min(temperature, sigma) <= 0:
        raise ValueError(f"temperature and sigma must be positive, got {temperature} and {sigma}")
    query, keys = same_precision(query, keys.detach())
    positions = positions.detach().to(query.dtype)
    matched = match >= 0
    target = match.clamp(min=0)[:, None]
    with torch.autocast(query.device.type, enabled=False):
        logits = query @ keys.T / temperature  # (M, K)
        distance = (positions[target[:, 0], None] - positions[None]).square().sum(2)
        log_weight = torch.log(-torch.expm1(-distance / (2 * sigma**2)))  # -inf at distance 0
        log_weight = log_weight.scatter(1, target, 0.0)  # the match itself counts in full
        loss = torch.logsumexp(logits + log_weight, 1) - logits.gather(1, target)[:, 0]
    total = torch.where(matched, loss, 0.0).sum()
    count = matched.sum() if denominator is None else torch.as_tensor(denominator, device=total.device)
    return total / count.clamp(min=1)
