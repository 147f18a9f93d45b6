"""InfoNCE with a queue or within a batch, pruning of negatives, and the key queue."""

from __future__ import annotations

from math import inf

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.distributed import gather_rows
from monai_anat.precision import same_precision

__all__ = ["KeyQueue", "batch_info_nce", "pruned_info_nce"]


def pruned_info_nce(
    query: Tensor,
    key: Tensor,
    queue: Tensor,
    temperature: float,
    prune_threshold: float | Tensor | None = None,
) -> Tensor:
    r"""Compute InfoNCE against a queue, without negatives that show the same anatomy as the query.

    .. math:: -\frac{1}{B} \sum_b \log \frac{e^{q_b k_b / \tau}}{e^{q_b k_b / \tau} +
        \sum_{j: q_b n_j < \theta} e^{q_b n_j / \tau}}

    MoCo (He et al., CVPR 2020, arXiv:1911.05722), equation 1; the purposive pruner of Adam (Hosseinzadeh Taher et al.,
    MICCAI DART 2023, arXiv:2309.15358) keeps the negatives whose cosine similarity is strictly below the threshold. No
    gradient flows through the pruning. If every negative is pruned, the loss is exactly 0.

    Args:
        query: embeddings (B, D) of unit length.
        key: embeddings (B, D) of unit length, the positives. They receive no gradient.
        queue: embeddings (K, D) of unit length, the negatives.
        temperature: temperature of the softmax; 0.2 in MoCo v2 and Adam.
        prune_threshold: cosine similarity at and above which a row of the queue is not a negative; a number, or a
            scalar tensor on the device. None keeps all negatives.

    Returns:
        A scalar, float32 or wider.

    Raises:
        ValueError: if the shapes do not match, or the temperature is not positive.

    >>> q = torch.eye(2)
    >>> pruned_info_nce(q, q, q, 0.2, prune_threshold=-1.0).item()
    0.0
    """
    if query.ndim != 2 or query.shape != key.shape or queue.ndim != 2 or queue.shape[1] != query.shape[1]:
        raise ValueError(
            "query and key must be (B, D) and queue (K, D), "
            f"got {tuple(query.shape)}, {tuple(key.shape)} and {tuple(queue.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}; MoCo v2 and Adam use 0.2")
    query, key, queue = same_precision(query, key.detach(), queue.detach())
    # cosines lie as close as 1.6e-5 to the threshold, which the half precision of autocast cannot resolve
    with torch.autocast(query.device.type, enabled=False):
        positive = (query * key).sum(1, keepdim=True)  # (B, 1)
        negative = query @ queue.T  # (B, K)
    if prune_threshold is not None:
        negative = negative.masked_fill(negative.detach() >= prune_threshold, -inf)
    logits = torch.cat([positive, negative], 1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


def batch_info_nce(query: Tensor, keys: Tensor, positives: Tensor, temperature: float) -> Tensor:
    r"""Compute InfoNCE within a batch: one key shows the image of the query, all others are negatives.

    .. math:: -\frac{1}{B} \sum_b \log \frac{e^{q_b k_{p_b} / \tau}}{\sum_j e^{q_b k_j / \tau}}

    MoCo v3 (Chen, Xie and He, ICCV 2021, arXiv:2104.02057), equation 1.

    Args:
        query: embeddings (B, D) of unit length.
        keys: embeddings (M, D) of unit length, from all processes. They receive no gradient.
        positives: (B,), index of the key that shows the image of each query.
        temperature: temperature of the softmax; 0.2 in MoCo v3.

    Returns:
        A scalar, float32 or wider. It is ln M if all scores are equal.

    Raises:
        ValueError: if the shapes do not match, or the temperature is not positive.

    >>> batch_info_nce(torch.zeros(2, 3), torch.zeros(4, 3), torch.tensor([0, 2]), 0.2).exp()
    tensor(4.)
    """
    if query.ndim != 2 or keys.ndim != 2 or query.shape[1] != keys.shape[1] or positives.shape != query.shape[:1]:
        raise ValueError(
            "query must be (B, D), keys (M, D) and positives (B,), "
            f"got {tuple(query.shape)}, {tuple(keys.shape)} and {tuple(positives.shape)}"
        )
    if temperature <= 0:
        raise ValueError(f"temperature must be positive, got {temperature}; MoCo v3 uses 0.2")
    query, keys = same_precision(query, keys.detach())
    with torch.autocast(query.device.type, enabled=False):
        logits = query @ keys.T / temperature  # (B, M)
    return F.cross_entropy(logits, positives)


class KeyQueue(nn.Module):
    """First-in, first-out queue of keys from earlier steps, part of the state dict.

    Each forward pass (micro-batch) of an optimizer step adds its keys with :meth:`observe`. :meth:`update`, called from
    ``after_step``, enqueues the keys of all processes at once. Nothing is enqueued in evaluation mode or if a key is
    not finite.

    Args:
        size: number of keys K, a multiple of the batch size over all processes.
        num_features: width D of a key.

    Raises:
        ValueError: if an argument is below 1.

    >>> queue = KeyQueue(4, 2)
    >>> queue.observe(torch.tensor([[0.0, 1.0]]))
    >>> queue.update()
    1
    >>> queue.keys[0].tolist(), int(queue.pointer)
    ([0.0, 1.0], 1)
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, num_features: int) -> None:
        super().__init__()
        if size < 1 or num_features < 1:
            raise ValueError(f"size and num_features must be at least 1, got {size} and {num_features}")
        self.register_buffer("keys", F.normalize(torch.randn(size, num_features), dim=1))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.long))
        self._seen: list[Tensor] = []

    @torch.no_grad()
    def observe(self, keys: Tensor) -> None:
        """Collect unit-length keys (B, D) for the next :meth:`update`, in training mode only."""
        if self.training:
            self._seen.append(keys.detach().to(self.keys.dtype))

    @torch.no_grad()
    def update(self) -> int:
        """Replace the oldest keys with those observed since the last call, in the order of the joint batch.

        Returns:
            The number of new keys from all processes.

        Raises:
            ValueError: if the number of keys does not divide the queue.
        """
        if not self._seen:
            return 0
        keys = gather_rows(torch.cat(self._seen))
        self._seen.clear()
        size, count = len(self.keys), len(keys)
        if size % count:
            raise ValueError(
                f"the size of the queue must be a multiple of the batch over all processes, got a queue of {size} for "
                f"a batch of {count}; the nearest size is {max(1, round(size / count)) * count}"
            )
        rows = (self.pointer + torch.arange(count, device=keys.device)) % size
        kept = torch.where(torch.isfinite(keys).all(), keys, self.keys[rows])
        self.keys.index_copy_(0, rows, kept)
        self.pointer.copy_((self.pointer + count) % size)
        return count
