"""Consistency of embeddings of the same anatomy in two views, per crop and per cell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import at_least_float32

__all__ = ["global_consistency", "matched_consistency"]


def global_consistency(embeddings_1: Tensor, embeddings_2: Tensor) -> Tensor:
    """Compute the mean over the batch of ``2 - 2 cos`` of two embeddings of the same image.

    It is 0 for equal, 2 for orthogonal and 4 for opposite directions, independent of the lengths and of the width D.
    The global consistency of PEAC (Zhou et al., BMVC 2023, arXiv:2312.00335) divides by D and multiplies by 1e5. Here
    both are one weight of the term, 1e5 / D. The loss is computed as the squared difference of the unit vectors, which
    is the same number but stays accurate where the two nearly agree.

    Args:
        embeddings_1: embeddings (B, D). Detach the teacher's embeddings, since gradients flow into both arguments.
        embeddings_2: embeddings (B, D) of the same images.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the two do not have the same shape (B, D).

    >>> a = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    >>> global_consistency(a, 3 * a).item(), global_consistency(a, -a).item()
    (0.0, 4.0)
    """
    if embeddings_1.ndim != 2 or embeddings_1.shape != embeddings_2.shape:
        raise ValueError(
            "embeddings_1 and embeddings_2 must both be (B, D), "
            f"got {tuple(embeddings_1.shape)} and {tuple(embeddings_2.shape)}; pool the tokens first"
        )
    unit_1 = F.normalize(at_least_float32(embeddings_1), dim=1)
    unit_2 = F.normalize(at_least_float32(embeddings_2), dim=1)
    return (unit_1 - unit_2).square().sum(dim=1).mean()


def matched_consistency(
    tokens_1: Tensor,
    tokens_2: Tensor,
    correspondence: Tensor,
    pair_count: Tensor | float | None = None,
    *,
    normalize: bool = False,
) -> Tensor:
    """Compute the mean squared difference between the embeddings of matching cells.

    This is the local consistency of PEAC in one direction (Zhou et al., BMVC 2023, arXiv:2312.00335): the sum of the
    squared differences over all matched cells of the batch, divided by (pairs x D). Pairs are pooled over the batch
    instead of averaged per sample. Shuffled samples have -1 everywhere and do not contribute. Without any pair the loss
    is 0 and still differentiable.

    Args:
        tokens_1: (B, N, D) tokens of view 1, row-major.
        tokens_2: (B, M, D) tokens of view 2. M equals N if both views have the same grid.
        correspondence: (B, N) int64, a map from each cell of view 1 to its matching cell in view 2, or -1 if there is
            none.
        pair_count: number of pairs to divide by instead of the number in this batch. Pass the mean over all processes
            and micro-batches of one optimizer step, so that the mean of their losses equals the loss of the joint
            batch.
        normalize: whether to scale each token to unit length first.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes do not match.

    >>> tokens = torch.tensor([[[1.0], [2.0]]])
    >>> moved = torch.tensor([[[2.0], [9.0]]])
    >>> matched_consistency(tokens, moved, torch.tensor([[-1, 0]])).item()
    0.0
    """
    if tokens_1.ndim != 3 or tokens_2.ndim != 3 or tokens_1.shape[::2] != tokens_2.shape[::2]:
        raise ValueError(
            "tokens_1 and tokens_2 must be (B, N, D) and (B, M, D), "
            f"got {tuple(tokens_1.shape)} and {tuple(tokens_2.shape)}; to_tokens of the networks makes them from "
            f"a feature map"
        )
    if correspondence.shape != tokens_1.shape[:2]:
        raise ValueError(
            f"correspondence must be (B, N) = {tuple(tokens_1.shape[:2])} like tokens_1, "
            f"got {tuple(correspondence.shape)}; its grid is image_size / strides[-1] of the backbone"
        )
    tokens_1, tokens_2 = at_least_float32(tokens_1), at_least_float32(tokens_2)
    if normalize:
        tokens_1, tokens_2 = F.normalize(tokens_1, dim=2), F.normalize(tokens_2, dim=2)
    matched = correspondence >= 0
    # Gather with a fixed size and mask afterwards. Boolean indexing would copy the mask to the host and break the graph
    # of torch.compile. Unmatched cells read token 0; they are masked before squaring, so their gradient is exactly 0.
    index = correspondence.clamp(min=0).unsqueeze(2).expand(-1, -1, tokens_2.shape[2])  # (B, N, D)
    difference = tokens_1 - tokens_2.gather(1, index)
    total = difference.masked_fill(~matched.unsqueeze(2), 0.0).square().sum()
    count = torch.as_tensor(matched.sum() if pair_count is None else pair_count, device=total.device).to(total.dtype)
    count = torch.where(count > 0, count, torch.ones_like(count))
    return total / (count * tokens_1.shape[2])
