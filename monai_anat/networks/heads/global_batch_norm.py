"""Batch normalization by the statistics of the joint batch of all processes, on any device."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from monai_anat.distributed import gather_rows, get_rank_and_world_size
from monai_anat.precision import at_least_float32

__all__ = ["GlobalBatchNorm"]


class GlobalBatchNorm(_BatchNorm):
    """Batch normalization whose training statistics are those of the rows of all processes together.

    With one process it is ``torch.nn.BatchNorm``, whose names and shapes it has. ``torch.nn.SyncBatchNorm`` does the
    same on GPUs only; this one runs wherever the processes can gather, so that two processes give the gradients of
    one joint batch (every process has equally many rows). Two small gathers per forward pass.

    Args:
        num_features: channels D of inputs (B, D) or (B, D, ...).
        eps: added to the variance.
        momentum: weight of the new statistics in the running ones.
        track_running_stats: keep running statistics for evaluation; without them those of the batch serve there too.

    >>> GlobalBatchNorm(3)(torch.randn(8, 3, 2, 2)).mean((0, 2, 3)).abs().max().item() < 1e-6
    True
    """

    num_batches_tracked: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, track_running_stats: bool = True
    ) -> None:
        super().__init__(num_features, eps, momentum, track_running_stats=track_running_stats)

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (B, D, ...) per channel."""
        _, processes = get_rank_and_world_size()
        by_running = self.track_running_stats and not self.training
        if by_running or processes == 1:
            return super().forward(input)
        wide = at_least_float32(input)
        axes = [0, *range(2, input.ndim)]
        own_var, own_mean = torch.var_mean(wide, axes, correction=0)  # (D,) each
        shares = gather_rows(torch.stack([own_mean, own_var])[None])  # (processes, 2, D)
        mean = shares[:, 0].mean(0)
        # the variance within the processes and that between them
        var = shares[:, 1].mean(0) + (shares[:, 0] - mean).square().mean(0)
        if self.track_running_stats:
            self._track(mean, var, count=processes * wide.numel() // wide.shape[1])
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        shape = [1, -1, *[1] * (input.ndim - 2)]
        return (wide * scale.view(shape) + shift.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        momentum = cast(float, self.momentum)  # torch's own may be None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(var * count / (count - 1), momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"input must be (B, {self.num_features}, ...), got {tuple(input.shape)}")
