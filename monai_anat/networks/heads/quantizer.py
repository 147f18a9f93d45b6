"""Vector quantizer with a codebook that follows the joint batch of all processes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.networks.layers.vector_quantizer import EMAQuantizer
from torch import Tensor

from monai_anat.distributed import gather_rows, sum_over_processes
from monai_anat.networks.backbones.backbone import is_scripting
from monai_anat.precision import at_least_float32

__all__ = ["JointQuantizer", "nearest_code"]

#: initial count of a restarted code, in multiples of the count below which a code is unused
FRESH = 10.0


def nearest_code(encodings: Tensor, codes: Tensor) -> Tensor:
    """Find the nearest code by Euclidean distance, in float32 or wider.

    VQ-VAE (van den Oord et al., arXiv:1711.00937, equation 1).

    Args:
        encodings: (..., D).
        codes: (K, D).

    Returns:
        Indices (...), int64; the first one among equally near codes.

    >>> nearest_code(torch.tensor([[0.9, 0.0], [0.0, 0.2]]), torch.eye(2))
    tensor([0, 1])
    """
    rows, codes = at_least_float32(encodings).flatten(0, -2), at_least_float32(codes)
    if is_scripting():
        distances = codes.square().sum(1) - 2 * rows @ codes.T
    else:
        with torch.autocast(rows.device.type, enabled=False):
            # the square of the encoding itself is the same for all codes
            distances = codes.square().sum(1) - 2 * rows @ codes.T  # (M, K)
    return distances.argmin(1).view(encodings.shape[:-1])


class JointQuantizer(EMAQuantizer):
    r"""MONAI's vector quantizer with a codebook that is updated once per optimizer step, by the joint batch.

    Code k is the running mean of the encodings that are nearest to it, :math:`w_k / n_k` with, of the :math:`n_k'`
    encodings of a step and their sum :math:`w_k'`,

    .. math:: n_k \leftarrow \gamma n_k + (1 - \gamma) n_k', \qquad w_k \leftarrow \gamma w_k + (1 - \gamma) w_k'

    (van den Oord et al., arXiv:1711.00937, appendix A.1). In training, the forward passes of one optimizer step
    (micro-batches) keep their encodings. :meth:`update`, called from ``after_step``, then moves the codebook towards
    the encodings of all processes. Without a call the codebook does not change, nor does it for non-finite encodings.
    Names and shapes of the state are MONAI's.

    Differs from MONAI's ``EMAQuantizer``, which updates in every forward pass, per micro-batch, and also if the
    optimizer step is skipped. Its counts start at 0 and its sums at the codes, so the first update divides unused codes
    by 1e-5; they move far away and are never used again. Here a code whose count falls below ``unused_share`` of the
    mean restarts at an encoding of the batch (as in Jukebox, Dhariwal et al., arXiv:2005.00341). At the first step this
    applies to every code that the batch does not use. MONAI compares distances in bfloat16 under autocast on a CPU and
    does not support double precision; here distances are float32 or wider.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        num_embeddings: number of codes K.
        embedding_dim: width D of a code.
        decay: weight :math:`\gamma` of the old counts and sums. The codebook averages over about 1 / (1 - decay) steps.
        unused_share: fraction of the mean count below which a code is unused.

    Raises:
        ValueError: if a number is out of range.

    >>> quantizer = JointQuantizer(2, num_embeddings=4, embedding_dim=3)
    >>> quantized, distance, codes = quantizer(torch.rand(2, 3, 5, 5))
    >>> tuple(quantized.shape), tuple(codes.shape)
    ((2, 3, 5, 5), (2, 5, 5))
    """

    def __init__(
        self,
        spatial_dims: int,
        num_embeddings: int,
        embedding_dim: int,
        *,
        decay: float = 0.99,
        unused_share: float = 0.01,
    ) -> None:
        if min(num_embeddings, embedding_dim) < 1 or not 0 <= decay < 1 or not 0 < unused_share < 1 / FRESH:
            raise ValueError(
                "num_embeddings and embedding_dim must be at least 1, decay in [0, 1), unused_share in (0, 0.1), got "
                f"{num_embeddings=}, {embedding_dim=}, {decay=} and {unused_share=}; usual are 8192, 32, 0.99 and 0.01"
            )
        super().__init__(spatial_dims, num_embeddings, embedding_dim, commitment_cost=1.0, decay=decay)
        self.unused_share = unused_share
        self.ema_w.zero_()
        self._seen = list[tuple[Tensor, Tensor]]()

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Replace each encoding by its nearest code.

        Args:
            inputs: encodings (B, D, h, w[, d]).

        Returns:
            The codes (B, D, h, w[, d]), with the straight-through gradient to the encodings; the mean squared distance
            between encodings and codes (the commitment); the indices of the codes (B, h, w[, d]).
        """
        inputs = at_least_float32(inputs)
        rows = inputs.movedim(1, -1)  # (B, h, w, D)
        indices = nearest_code(rows.detach(), self.embedding.weight)
        if not is_scripting() and self.training and torch.is_grad_enabled():
            self._seen.append((rows.detach().flatten(1, -2), indices.flatten(1)))  # (B, N, D), (B, N)
        codes = self.embed(indices)
        return inputs + (codes - inputs).detach(), F.mse_loss(inputs, codes.detach()), indices

    @torch.no_grad()
    def update(self) -> None:
        """Update the codebook with the encodings since the last call; without any, do nothing."""
        if not self._seen:
            return
        rows, indices = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        codes = self.embedding.weight
        seen = torch.cat([rows, torch.ones_like(rows[..., :1])], -1).flatten(0, 1).to(codes.dtype)  # (B * N, D + 1)
        sums = torch.zeros(len(codes), seen.shape[1], dtype=codes.dtype, device=codes.device)
        sums = sum_over_processes(sums.index_add_(0, indices.flatten(), seen))
        totals = torch.cat([self.ema_w, self.ema_cluster_size[:, None]], 1).lerp(sums, 1 - self.decay)  # (K, D + 1)
        joint = gather_rows(rows).flatten(0, 1).to(codes.dtype)  # (M, D)
        mean = len(joint) / len(codes)
        unused = totals[:, -1] < self.unused_share * mean
        fresh = joint[_scattered(unused, len(joint))]
        count = FRESH * self.unused_share * mean
        restarted = torch.cat([fresh * count, torch.full_like(fresh[:, :1], count)], 1)
        totals = torch.where(unused[:, None], restarted, totals)
        finite = torch.isfinite(sums).all()
        codes.copy_(torch.where(finite, totals[:, :-1] / totals[:, -1:], codes))
        self.ema_w.copy_(torch.where(finite, totals[:, :-1], self.ema_w))
        self.ema_cluster_size.copy_(torch.where(finite, totals[:, -1], self.ema_cluster_size))

    def perplexity(self) -> Tensor:
        """Compute the effective number of codes: e to the entropy of the counts, from 1 to K; 0 before an update.

        >>> quantizer = JointQuantizer(2, num_embeddings=4, embedding_dim=3)
        >>> _ = quantizer.ema_cluster_size.copy_(torch.tensor([0.0, 2.0, 2.0, 0.0]))
        >>> quantizer.perplexity()
        tensor(2.)
        """
        total = self.ema_cluster_size.sum()
        shares = self.ema_cluster_size / total.clamp_min(1e-12)
        used: Tensor = torch.special.entr(shares).sum().exp() * (total > 0)
        return used


def _scattered(chosen: Tensor, rows: int) -> Tensor:
    """Compute a row index for each entry of (K,), so that those of ``chosen`` entries spread evenly over all rows.

    Uses multiples of the golden ratio, which are the same on every process. A random draw would have to be broadcast.
    """
    numbers: Tensor = (chosen.cumsum(0) * 2654435769 % 2**32 * rows) >> 32
    return numbers
