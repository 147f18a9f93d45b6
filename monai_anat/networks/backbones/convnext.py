"""ConvNeXt backbone with the official parameter names, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.init import trunc_normal_
from torch.utils.checkpoint import checkpoint

from monai_anat.networks.backbones.backbone import Backbone, is_scripting, pad_to_multiple
from monai_anat.networks.backbones.drop_path import StochasticDepth, drop_path_rates

__all__ = ["ConvNeXtBackbone"]


class ConvNeXtBackbone(Backbone):
    """ConvNeXt (arXiv:2201.03545): a convolutional network with the layout of a Swin Transformer.

    The defaults are ConvNeXt-B as Adam-v2 uses it. Parameter names are those of the official network. Images may have
    any size: an image is zero-padded at the right and bottom to whole patches, and a normalized map to an even size
    where a stage halves it.

    Differs from the released code: the official classifier normalizes the pooled features, ``norm(mean(x))``. Here the
    last map is normalized at every position, which gives ``mean(norm(x))`` after pooling, with the same parameters.
    In 3D, where no official network exists, kernels are cubes.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: number of image channels.
        depths: number of blocks of each stage, for any number of stages.
        dims: number of channels of each stage.
        norm_eps: epsilon of every LayerNorm.
        drop_path_rate: stochastic depth rate of the last block, rising linearly from 0 in the first.
        layer_scale: initial value of the learned scale per channel on each block's branch. Set to 0 to disable it.
        use_checkpoint: recompute each block in the backward pass. Saves memory, costs one forward pass.

    Raises:
        ValueError: if ``depths`` and ``dims`` differ in length, or a number is out of range.

    Example:
        >>> backbone = ConvNeXtBackbone(depths=(1, 1, 2), dims=(24, 48, 96))
        >>> [tuple(f.shape) for f in backbone.forward_features(torch.zeros(1, 1, 64, 96))]
        [(1, 24, 16, 24), (1, 48, 8, 12), (1, 96, 4, 6)]
    """

    supports_stages = True

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 1,
        depths: Sequence[int] = (3, 3, 27, 3),
        dims: Sequence[int] = (128, 256, 512, 1024),
        norm_eps: float = 1e-6,
        drop_path_rate: float = 0.0,
        layer_scale: float = 1e-6,
        use_checkpoint: bool = False,
    ) -> None:
        _check_arguments(depths, dims, drop_path_rate, layer_scale)
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=tuple(dims),
            strides=tuple(4 * 2**s for s in range(len(dims))),
        )
        self.use_checkpoint = use_checkpoint
        halvings = (
            nn.Sequential(_ChannelNorm(before, eps=norm_eps), _patch_convolution(spatial_dims, before, after, 2))
            for before, after in pairwise(dims)
        )
        stem = _patch_convolution(spatial_dims, in_channels, dims[0], 4), _ChannelNorm(dims[0], eps=norm_eps)
        self.downsample_layers = nn.ModuleList([nn.Sequential(*stem), *halvings])
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(spatial_dims, width, norm_eps, next(rates), layer_scale) for _ in range(depth)))
            for depth, width in zip(depths, dims, strict=True)
        )
        self.norm = nn.LayerNorm(self.num_features, eps=norm_eps)
        self.apply(_initialize)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Compute one feature map per stage.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.

        Returns:
            Maps (B, channels[s], h, w[, d]), stored channels last. The last one has passed the final normalization.

        Raises:
            ValueError: if the image has another rank or number of channels than the backbone.
        """
        self.check_input(x)
        maps: list[Tensor] = []
        for downsample, blocks in zip(self.downsample_layers, self.stages):  # noqa: B905 (not in TorchScript)
            x = downsample(x)
            for block in blocks.children():
                x = self._run_block(block, x) if not is_scripting() else block(x)
            maps.append(x)
        maps[-1] = self.norm(maps[-1].movedim(1, -1)).movedim(-1, 1)
        return maps

    def forward_stage(self, stage: int, inputs: list[Tensor]) -> list[Tensor]:
        """Compute one stage; see :meth:`Backbone.forward_stage`."""
        x = inputs[0]
        if stage == 0:
            self.check_input(x)
        for number, downsample in enumerate(self.downsample_layers):
            if number == stage:
                x = downsample(x)
        for number, blocks in enumerate(self.stages):
            if number == stage:
                for block in blocks.children():
                    x = self._run_block(block, x) if not is_scripting() else block(x)
        if stage == len(self.stages) - 1:
            x = self.norm(x.movedim(1, -1)).movedim(-1, 1)
        return [x]

    @torch.jit.unused
    def _run_block(self, block: nn.Module, x: Tensor) -> Tensor:
        if self.use_checkpoint and self.training and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
        return x


class _Block(nn.Module):
    """x + gamma * perceptron(norm(depthwise 7x7(x))); (B, C, h, w[, d]) -> the same shape."""

    def __init__(
        self, spatial_dims: int, channels: int, norm_eps: float, drop_path_rate: float, layer_scale: float
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.dwconv: nn.Module = convolution(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=norm_eps)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale)) if layer_scale else None
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.dwconv(x).movedim(1, -1))  # (B, h, w, C)
        branch = self.pwconv2(F.gelu(self.pwconv1(branch)))
        if self.gamma is not None:
            branch = self.gamma * branch
        x = x + self.drop_path(branch.movedim(-1, 1))
        return x


class _PatchConvolution2d(nn.Conv2d):
    """Convolution of non-overlapping patches; the image is zero-padded to whole patches."""

    def forward(self, x: Tensor) -> Tensor:
        x = self._conv_forward(pad_to_multiple(x, self.kernel_size[0], first_axis=2), self.weight, self.bias)
        return x


class _PatchConvolution3d(nn.Conv3d):
    """Convolution of non-overlapping patches; the volume is zero-padded to whole patches."""

    def forward(self, x: Tensor) -> Tensor:
        x = self._conv_forward(pad_to_multiple(x, self.kernel_size[0], first_axis=2), self.weight, self.bias)
        return x


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every position; (B, C, h, w[, d]) -> the same shape."""

    def forward(self, x: Tensor) -> Tensor:
        normed = F.layer_norm(x.movedim(1, -1), self.normalized_shape, self.weight, self.bias, self.eps)
        return normed.movedim(-1, 1)


def _patch_convolution(spatial_dims: int, before: int, after: int, side: int) -> nn.Module:
    return (_PatchConvolution2d if spatial_dims == 2 else _PatchConvolution3d)(before, after, side, side)


def _check_arguments(depths: Sequence[int], dims: Sequence[int], drop_path_rate: float, layer_scale: float) -> None:
    if not depths or len(depths) != len(dims):
        raise ValueError(
            f"depths and dims must have one entry per stage, got {len(depths)} and {len(dims)}; make them equally long"
        )
    if min(*depths, *dims) < 1:
        raise ValueError(f"depths and dims must be at least 1, got depths={tuple(depths)} and dims={tuple(dims)}")
    if not 0 <= drop_path_rate < 1:
        raise ValueError(f"drop_path_rate must be in [0, 1), got drop_path_rate={drop_path_rate}")
    if layer_scale < 0:
        raise ValueError(f"layer_scale must be 0 (no factor) or positive, got layer_scale={layer_scale}")


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Conv2d | nn.Conv3d):
        trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
