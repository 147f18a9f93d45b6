"""Segmentation decoders (UPerNet, residual U-Net) and the encoder-decoder network."""

# ruff: noqa: RUF005 (TorchScript cannot unpack lists)
from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from monai.networks.blocks import UnetrUpBlock
from monai.networks.layers import Conv, Dropout, get_norm_layer
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone, static_shape
from monai_anat.networks.backbones.partial_states import refuse_partial_states

__all__ = ["EncoderDecoder", "ResidualUNetDecoder", "UPerNetDecoder"]


class UPerNetDecoder(nn.Module):
    """UPerNet decoder (arXiv:1807.10221): pyramid pooling on the coarsest map and a feature pyramid network.

    As in POPAR's segmentation, the last map is pooled to 1, 2, 4 and 6 cells per axis. Each pooled map is projected to
    a quarter of the channels, and a 3x3 convolution fuses them with the last map. Every level is projected to
    ``features`` channels, added to the resized coarser level and smoothed. All levels are concatenated at the finest
    size, fused and classified. The number of maps is free: three stages, or the maps of a ViT, which have one size.

    Differs from the released code: there the smoothing convolutions are one repeated module, so that all levels share
    its weights. Here they are independent unless ``share_smoothing`` is set, which the published numbers used.
    There the maps are taken after a stage's patch merging, here before it, the usual input of UPerNet.

    Args:
        in_channels: number of channels of each map, fine to coarse: ``backbone.channels``.
        out_channels: number of classes.
        spatial_dims: 2 for images, 3 for volumes.
        features: number of channels of the feature pyramid.
        pool_bins: cells per axis of each pooled map.
        norm: ``"group"``, or any normalization of MONAI's ``get_norm_layer``. Group normalization works for a batch of
            one, where ``"batch"`` and ``"instance"`` cannot train, because a map pooled to one cell has one value per
            channel and image. Published networks used ``"batch"``.
        dropout: probability of dropping a channel of the fused last map.
        share_smoothing: use one smoothing convolution for all levels.

    Raises:
        ValueError: if there is no map, or a size is below 1.

    Example:
        >>> decoder = UPerNetDecoder((8, 16, 32), out_channels=2, features=16)
        >>> maps = [torch.zeros(1, 8, 16, 16), torch.zeros(1, 16, 8, 8), torch.zeros(1, 32, 4, 4)]
        >>> decoder(maps).shape
        torch.Size([1, 2, 16, 16])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        spatial_dims: int = 2,
        features: int = 256,
        pool_bins: Sequence[int] = (1, 2, 4, 6),
        norm: str | tuple[str, dict[str, Any]] = "group",
        dropout: float = 0.1,
        share_smoothing: bool = False,
    ) -> None:
        super().__init__()
        _check_decoder(in_channels, out_channels, spatial_dims, features)
        if min(pool_bins, default=0) < 1:
            raise ValueError(f"pool_bins must be numbers of cells, at least 1 each, got pool_bins={tuple(pool_bins)}")

        def block(before: int, after: int, kernel: int) -> nn.Sequential:
            return _conv_norm_relu(spatial_dims, before, after, kernel, norm)

        convolution: Callable[..., nn.Module] = Conv[Conv.CONV, spatial_dims]
        last, levels = in_channels[-1], len(in_channels)
        pooled = max(4, last // 4)
        self.spatial_dims = spatial_dims
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels
        self.pool_bins = tuple(pool_bins)
        self._channels = list(in_channels)  # TorchScript indexes lists, not tuples
        self._bins = list(pool_bins)
        self.pooled = nn.ModuleList(block(last, pooled, 1) for _ in pool_bins)
        self.bottleneck = block(last + pooled * len(self.pool_bins), last, 3)
        self.dropout = Dropout[Dropout.DROPOUT, spatial_dims](dropout)
        self.laterals = nn.ModuleList(convolution(channels, features, 1) for channels in in_channels)
        count = min(1, levels - 1) if share_smoothing else levels - 1  # the coarsest map is not smoothed
        self.smoothing = nn.ModuleList(convolution(features, features, 3, padding=1) for _ in range(count))
        self.fusion = block(levels * features, features, 3)
        self.head = convolution(features, out_channels, 3, padding=1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute logits (B, out_channels, h, w[, d]) at the size of the finest of the maps (B, C, h, w[, d])."""
        _check_maps(features, self._channels)
        pooled = [features[-1]]
        for number, mix in enumerate(self.pooled):
            pooled.append(_resize(mix(_pool(features[-1], self._bins[number])), features[-1]))
        maps = features[:-1] + [self.dropout(self.bottleneck(torch.cat(pooled, dim=1)))]
        levels: list[Tensor] = []
        for number, lateral in enumerate(self.laterals):
            levels.append(lateral(maps[number]))
        for coarse in range(len(levels) - 1, 0, -1):
            levels[coarse - 1] = levels[coarse - 1] + _resize(levels[coarse], levels[coarse - 1])
        for number, smooth in enumerate(self.smoothing):
            levels[number] = smooth(levels[number])
            if len(self.smoothing) == 1:  # shared by all levels but the coarsest, which is not smoothed
                for level in range(1, len(levels) - 1):
                    levels[level] = smooth(levels[level])
        resized = [_resize(level, levels[0]) for level in levels]
        logits: Tensor = self.head(self.fusion(torch.cat(resized, dim=1)))
        return logits


class ResidualUNetDecoder(nn.Module):
    """U-Net decoder from MONAI's ``UnetrUpBlock``: per level, a transposed convolution and a residual block.

    Args:
        in_channels: number of channels of each map, fine to coarse: ``backbone.channels``.
        out_channels: number of classes.
        strides: stride of each map in pixels, ``backbone.strides``. Each must be twice the previous one.
        spatial_dims: 2 for images, 3 for volumes.
        norm: a normalization of MONAI's ``get_norm_layer``. MONAI's own networks use ``"instance"``.

    Raises:
        ValueError: if the strides do not double, as those of a ViT. Use :class:`UPerNetDecoder` there.

    Example:
        >>> decoder = ResidualUNetDecoder((8, 16, 32), out_channels=2, strides=(4, 8, 16))
        >>> maps = [torch.zeros(1, 8, 16, 16), torch.zeros(1, 16, 8, 8), torch.zeros(1, 32, 4, 4)]
        >>> decoder(maps).shape
        torch.Size([1, 2, 16, 16])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        *,
        strides: Sequence[int],
        spatial_dims: int = 2,
        norm: str | tuple[str, dict[str, Any]] = "instance",
    ) -> None:
        super().__init__()
        _check_decoder(in_channels, out_channels, spatial_dims, 1)
        if len(strides) != len(in_channels) or any(2 * fine != coarse for fine, coarse in pairwise(strides)):
            raise ValueError(
                f"strides must double from map to map, one for each of the {len(in_channels)} maps, got "
                f"strides={tuple(strides)}; UPerNetDecoder takes any strides"
            )
        self.in_channels = tuple(in_channels)
        self.out_channels = out_channels
        self._channels = list(in_channels)  # TorchScript compares lists, not tuples
        self.ups = nn.ModuleList(
            UnetrUpBlock(
                spatial_dims, coarse, fine, kernel_size=3, upsample_kernel_size=2, norm_name=norm, res_block=True
            )
            for fine, coarse in pairwise(in_channels)
        )
        convolution: Callable[..., nn.Module] = Conv[Conv.CONV, spatial_dims]
        self.head = convolution(in_channels[0], out_channels, 1)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Compute logits (B, out_channels, h, w[, d]) at the size of the finest of the maps (B, C, h, w[, d])."""
        _check_maps(features, self._channels)
        x = features[-1]
        for level in range(len(self.ups) - 1, -1, -1):
            for number, up in enumerate(self.ups):  # TorchScript cannot index modules by a variable
                if number == level:
                    skip = features[level]
                    grown = up.transp_conv(x)  # type: ignore[operator]
                    # an odd map was rounded up when it was halved
                    grown = _crop(grown, static_shape(skip)[2:])
                    x = up.conv_block(torch.cat([grown, skip], dim=1))  # type: ignore[operator]
        logits: Tensor = self.head(x)
        return logits


class EncoderDecoder(nn.Module):
    """Segmentation network: a backbone, a decoder, and logits at the size of the image, for any image size.

    Args:
        backbone: any backbone.
        decoder: module that takes the list of the backbone's maps and returns logits at the size of the finest map.

    Raises:
        ValueError: if the decoder was built for other channels than those of the backbone.

    Example:
        >>> from monai_anat.networks import SwinBackbone
        >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2))
        >>> network = EncoderDecoder(backbone, UPerNetDecoder(backbone.channels, 2, features=16))
        >>> network(torch.zeros(1, 1, 50, 70)).shape
        torch.Size([1, 2, 50, 70])
    """

    def __init__(self, backbone: Backbone, decoder: nn.Module) -> None:
        super().__init__()
        wanted = getattr(decoder, "in_channels", backbone.channels)
        if tuple(wanted) != tuple(backbone.channels):
            raise ValueError(
                f"decoder must be built with in_channels={backbone.channels}, the channels of the backbone's maps, "
                f"got a decoder for {tuple(wanted)}"
            )
        self.backbone = backbone
        self.decoder = decoder
        refuse_partial_states(self)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits (B, classes, H, W[, D]) of an image (B, C, H, W[, D])."""
        logits = self.decoder(self.backbone.forward_features(x))
        # maps cover the image padded to whole patches: resize to that size, then crop, so that nothing is shifted
        covered = [side * self.backbone.strides[0] for side in static_shape(logits)[2:]]
        return _crop(_interpolate(logits, covered), static_shape(x)[2:])


def _check_decoder(in_channels: Sequence[int], out_channels: int, spatial_dims: int, features: int) -> None:
    if spatial_dims not in (2, 3):
        raise ValueError(f"spatial_dims must be 2 or 3, got spatial_dims={spatial_dims}")
    if not in_channels or min(*in_channels, out_channels, features) < 1:
        raise ValueError(
            "in_channels must name the channels of at least one map, and out_channels and features must be at least 1, "
            f"got in_channels={tuple(in_channels)}, out_channels={out_channels}, features={features}"
        )


def _check_maps(features: list[Tensor], channels: list[int]) -> None:
    got = [static_shape(feature_map)[1] for feature_map in features]
    if got != list(channels):
        raise ValueError(
            f"features must be {len(channels)} maps with {channels} channels, fine to coarse, got {got}; "
            "build the decoder with in_channels=backbone.channels and give it backbone.forward_features(x)"
        )


def _conv_norm_relu(
    spatial_dims: int, before: int, after: int, kernel: int, norm: str | tuple[str, dict[str, Any]]
) -> nn.Sequential:
    if norm == "group":  # groups of at least four channels: a map pooled to one cell has no other values to average
        norm = ("group", {"num_groups": gcd(8, after // 4) if after % 4 == 0 else 1})
    convolution: Callable[..., nn.Module] = Conv[Conv.CONV, spatial_dims]
    return nn.Sequential(
        convolution(before, after, kernel, padding=kernel // 2, bias=False),
        get_norm_layer(norm, spatial_dims, after),
        nn.ReLU(inplace=True),
    )


def _pool(x: Tensor, cells: int) -> Tensor:
    """Average over ``cells`` cells per axis."""
    if x.dim() == 4:
        return F.adaptive_avg_pool2d(x, (cells, cells))
    return F.adaptive_avg_pool3d(x, (cells, cells, cells))


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return _interpolate(x, static_shape(like)[2:])


def _interpolate(x: Tensor, size: list[int]) -> Tensor:
    if static_shape(x)[2:] == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear" if x.dim() == 4 else "trilinear", align_corners=False)


def _crop(x: Tensor, size: list[int]) -> Tensor:
    for d, side in enumerate(size):
        if static_shape(x)[2 + d] > side:
            x = x.narrow(2 + d, 0, side)
    return x
