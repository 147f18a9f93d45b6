"""Batch normalization over the joint batch of all processes, on any device."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from monai_anat.distributed import gather_rows, get_rank_and_world_size
from monai_anat.networks.backbones.backbone import is_scripting
from monai_anat.precision import at_least_float32

__all__ = ["GlobalBatchNorm"]


class GlobalBatchNorm(_BatchNorm):
    """Batch normalization with training statistics over all processes.

    With one process it equals ``torch.nn.BatchNorm``, with the same parameter names and shapes.
    ``torch.nn.SyncBatchNorm`` does the same on GPUs only. This module works on every backend that can gather, so that
    two processes give the gradients of one joint batch, provided that every process has the same number of rows. It
    costs two small gathers per forward pass. A scripted module uses the statistics of its own process.

    Args:
        num_features: number of channels D of inputs (B, D) or (B, D, ...).
        eps: added to the variance.
        momentum: weight of the new statistics in the running statistics.
        track_running_stats: track running statistics for evaluation. Without them, evaluation uses batch statistics.

    >>> GlobalBatchNorm(3)(torch.randn(8, 3, 2, 2)).mean((0, 2, 3)).abs().max().item() < 1e-6
    True
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, track_running_stats: bool = True
    ) -> None:
        super().__init__(num_features, eps, momentum, track_running_stats=track_running_stats)
        self.num_batches_tracked: Tensor  # TorchScript cannot resolve these annotations in the class body
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, input: Tensor) -> Tensor:
        """Normalize (B, D, ...) per channel."""
        if is_scripting():
            return self._forward_here(input)
        else:  # noqa: RET505 (TorchScript compiles only the branch that it takes)
            return self._forward(input)

    def _forward_here(self, input: Tensor) -> Tensor:
        """Compute ``torch.nn.BatchNorm`` in a form that TorchScript compiles."""
        self._check_input_dim(input)
        batch = self.training or not self.track_running_stats
        if self.training and self.track_running_stats:
            self.num_batches_tracked.add_(1)
        tracked = self.track_running_stats
        mean, var = (self.running_mean, self.running_var) if tracked else (None, None)
        momentum = 0.1 if self.momentum is None else self.momentum
        return F.batch_norm(input, mean, var, self.weight, self.bias, batch, momentum, self.eps)

    @torch.jit.unused
    def _forward(self, input: Tensor) -> Tensor:
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

    @torch.jit.unused
    @torch.no_grad()
    def _track(self, mean: Tensor, var: Tensor, count: int) -> None:
        momentum = cast(float, self.momentum)  # PyTorch's own may be None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(var * count / (count - 1), momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2 or input.shape[1] != self.num_features:
            raise ValueError(f"input must be (B, {self.num_features}, ...), got {list(input.shape)}")
