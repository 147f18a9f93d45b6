"""ConvNeXt under the official parameter names, for any image size, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.layers import DropPath
from torch import Tensor, nn
from torch.nn.init import trunc_normal_
from torch.utils.checkpoint import checkpoint

from monai_anat.networks.backbones.backbone import Backbone, Between, drop_path_rates, pad_to_multiple

__all__ = ["ConvNeXtBackbone"]


class ConvNeXtBackbone(Backbone):
    """ConvNeXt (arXiv 2201.03545): a convolutional network laid out like a Swin Transformer.

    The defaults are ConvNeXt-B as Adam-v2 uses it; parameter names are those of the official network. Images of any
    size are taken: the image is zero-padded right and bottom to whole patches, and a normalized map to an even size
    where a stage halves it.

    Differs from the released code: the official classifier normalizes the pooled features, ``norm(mean(x))``; a map
    has to be normalized at every position, ``mean(norm(x))`` when it is pooled, with the same parameters.
    In 3D, where no official network exists, kernels are cubes.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        depths: blocks of each stage; any number of stages.
        dims: channels of each stage.
        norm_eps: epsilon of every LayerNorm.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 in the first.
        layer_scale: first value of the learned factor per channel on each block's branch; 0 leaves the factor out.
        use_checkpoint: recompute each block in the backward pass, which saves memory and costs a forward pass.

    Raises:
        ValueError: when depths and dims do not match, or a number is out of range.

    Example:
        >>> backbone = ConvNeXtBackbone(depths=(1, 1, 2), dims=(24, 48, 96))
        >>> [tuple(f.shape) for f in backbone.forward_features(torch.zeros(1, 1, 64, 96))]
        [(1, 24, 16, 24), (1, 48, 8, 12), (1, 96, 4, 6)]
    """

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
        config: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "depths": list(depths),
            "dims": list(dims),
            "norm_eps": norm_eps,
            "drop_path_rate": drop_path_rate,
            "layer_scale": layer_scale,
            "use_checkpoint": use_checkpoint,
        }
        super().__init__(
            config,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=tuple(dims),
            strides=tuple(4 * 2**s for s in range(len(dims))),
        )
        self.use_checkpoint = use_checkpoint
        halvings = (
            _Downsampling(_ChannelNorm(before, norm_eps), _convolution(spatial_dims, before, after, 2))
            for before, after in pairwise(dims)
        )
        self.downsample_layers = nn.ModuleList(
            [
                _Downsampling(_convolution(spatial_dims, in_channels, dims[0], 4), _ChannelNorm(dims[0], norm_eps)),
                *halvings,
            ]
        )
        rates = iter(drop_path_rates(drop_path_rate, sum(depths)))
        self.stages = nn.ModuleList(
            nn.Sequential(*(_Block(spatial_dims, width, norm_eps, next(rates), layer_scale) for _ in range(depth)))
            for depth, width in zip(depths, dims, strict=True)
        )
        self.norm = nn.LayerNorm(self.num_features, eps=norm_eps)
        self.apply(_initialize)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Maps after each stage.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.

        Returns:
            Maps (B, channels[s], h, w[, d]), stored channels last; the last one after the final normalization.

        Raises:
            ValueError: for another rank or number of channels.
        """
        return self.forward_stages(x)

    def forward_stages(self, x: Tensor, between: Between | None = None) -> list[Tensor]:
        """The maps of ``forward_features``; the next stage shrinks what ``between`` makes of them.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.
            between: see :meth:`Backbone.forward_stages`.
        """
        self.check_input(x)
        maps: list[Tensor] = []
        for downsample, blocks in zip(self.downsample_layers, self.stages, strict=True):
            if maps and between is not None:
                x = between(len(maps) - 1, x)
            x = downsample(x)
            for block in blocks.children():
                if self.use_checkpoint and self.training and torch.is_grad_enabled():
                    x = checkpoint(block, x, use_reentrant=False)
                else:
                    x = block(x)
            maps.append(x)
        maps[-1] = self.norm(maps[-1].movedim(1, -1)).movedim(-1, 1)
        return maps


class _Block(nn.Module):
    """x + gamma * perceptron(norm(depthwise 7x7(x))); (B, C, h, w[, d]) -> the same."""

    def __init__(
        self, spatial_dims: int, channels: int, norm_eps: float, drop_path_rate: float, layer_scale: float
    ) -> None:
        super().__init__()
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.dwconv: nn.Conv2d | nn.Conv3d = convolution(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=norm_eps)
        self.pwconv1 = nn.Linear(channels, 4 * channels)
        self.pwconv2 = nn.Linear(4 * channels, channels)
        self.gamma = nn.Parameter(torch.full((channels,), layer_scale)) if layer_scale else None
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.norm(self.dwconv(x).movedim(1, -1))  # (B, h, w, C)
        branch = self.pwconv2(F.gelu(self.pwconv1(branch)))
        if self.gamma is not None:
            branch = self.gamma * branch
        x = x + self.drop_path(branch.movedim(-1, 1))
        return x


class _Downsampling(nn.Sequential):
    """A convolution of patches and a norm, in either order; the image is padded to whole patches."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            if isinstance(layer, nn.Conv2d | nn.Conv3d):
                x = pad_to_multiple(x, layer.kernel_size[0], first_axis=2)
            x = layer(x)
        return x


class _ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of every position; (B, C, h, w[, d]) -> the same."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _convolution(spatial_dims: int, before: int, after: int, side: int) -> nn.Conv2d | nn.Conv3d:
    """A convolution of patches that do not overlap."""
    return (nn.Conv2d if spatial_dims == 2 else nn.Conv3d)(before, after, side, side)


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
