"""The same anatomy, seen twice, has the same embedding: of the whole crop, and cell by cell."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.precision import at_least_float32

__all__ = ["global_consistency", "matched_consistency"]


def global_consistency(embeddings_1: Tensor, embeddings_2: Tensor) -> Tensor:
    """Say how far two embeddings of the same patient point apart: the mean over the batch of ``2 - 2 cos``.

    It is 0 for equal directions, 2 for orthogonal and 4 for opposite ones, whatever the lengths and the width D. The
    global consistency of PEAC (Zhou et al., BMVC 2023, arXiv:2312.00335) divides by D and then weights by 1e5; both
    are one factor, 1e5 / D, here. The squared difference of the unit vectors is taken, which is the same number but
    keeps its precision where the two nearly agree.

    Args:
        embeddings_1: (B, D); a gradient flows wherever it requires one, so detach the teacher's.
        embeddings_2: (B, D).

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the two are not of one shape (B, D).

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
    """Say how far the embeddings of cells that show the same anatomy lie apart.

    The squared differences over all matched cells of the batch together, divided by (pairs x D): the local
    consistency of PEAC in one direction (Zhou et al., BMVC 2023, arXiv:2312.00335). Pairs are pooled over the batch,
    not averaged per sample, and samples that take no part (shuffled ones) have -1 everywhere. Without any pair the
    result is 0 and still has a gradient path.

    Args:
        tokens_1: (B, N, D) tokens of view 1, row-major.
        tokens_2: (B, M, D) tokens of view 2; M is N wherever both views have the same grid.
        correspondence: (B, N) int64, the index in view 2 of the cell that shows the same anatomy as cell i of view 1,
            or -1.
        pair_count: divide by this number of pairs and not by those of this batch: the mean over the processes and
            micro-batches that share one optimizer step, so that the mean of their losses is that of the joint batch.
        normalize: compare directions, i.e. scale each token to unit length first.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes do not fit together.

    >>> tokens = torch.tensor([[[1.0], [2.0]]])
    >>> moved = torch.tensor([[[2.0], [9.0]]])
    >>> matched_consistency(tokens, moved, torch.tensor([[-1, 0]])).item()
    0.0
    """
    if tokens_1.ndim != 3 or tokens_2.ndim != 3 or tokens_1.shape[::2] != tokens_2.shape[::2]:
        raise ValueError(
            "tokens_1 and tokens_2 must be (B, N, D) and (B, M, D), "
            f"got {tuple(tokens_1.shape)} and {tuple(tokens_2.shape)}; networks.to_tokens makes them of a feature map"
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
    # A fixed-size gather and a mask instead of boolean indexing: no copy of the mask to the host, and one graph for
    # torch.compile. Unmatched cells read token 0 and are masked before the square, so that they add exactly 0 to its
    # gradient.
    index = correspondence.clamp(min=0).unsqueeze(2).expand(-1, -1, tokens_2.shape[2])  # (B, N, D)
    difference = tokens_1 - tokens_2.gather(1, index)
    total = difference.masked_fill(~matched.unsqueeze(2), 0.0).square().sum()
    count = torch.as_tensor(matched.sum() if pair_count is None else pair_count, device=total.device).to(total.dtype)
    count = torch.where(count > 0, count, torch.ones_like(count))
    return total / (count * tokens_1.shape[2])
