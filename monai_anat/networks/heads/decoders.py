"""From feature maps to a segmentation: UPerNet, a U-Net decoder of MONAI's blocks, and the network around them."""

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

__all__ = ["EncoderDecoder", "ResidualUNetDecoder", "UPerNetDecoder"]


class UPerNetDecoder(nn.Module):
    """UPerNet (arXiv 1807.10221): pyramid pooling on the coarsest map, then a feature pyramid down to the finest.

    As in POPAR's segmentation: the last map is averaged to 1, 2, 4 and 6 cells per axis, each brought to a quarter of
    its channels, and mixed by a 3x3 convolution; every level is brought to ``features`` channels, added to the
    resampled level above it and smoothed; all levels are concatenated at the finest size, mixed, and classified.
    Any number of maps fits: three stages, or the maps of a ViT, which have one size.

    Differs from the released code: there the smoothing convolutions are one module repeated, so that the levels share
    its weights; here they are independent unless ``share_smoothing`` is set, which the published numbers used.
    There the maps come after a stage's merging, here before it, the usual input of UPerNet.

    Args:
        in_channels: channels of each map, fine to coarse: ``backbone.channels``.
        out_channels: classes.
        spatial_dims: 2 or 3.
        features: channels of the pyramid.
        pool_bins: cells per axis of the pyramid pooling.
        norm: ``"group"``, or any normalization that MONAI's ``get_norm_layer`` knows. Group normalization works for a
            batch of one, where ``"batch"`` and ``"instance"`` cannot train: a map pooled to one cell has one value
            per channel and image. Published networks used ``"batch"``.
        dropout: probability of dropping a channel of the pooled features.
        share_smoothing: one smoothing convolution for all levels.

    Raises:
        ValueError: for no map, or a size below 1.

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
        self.pooled = nn.ModuleList(block(last, pooled, 1) for _ in pool_bins)
        self.bottleneck = block(last + pooled * len(self.pool_bins), last, 3)
        self.dropout = Dropout[Dropout.DROPOUT, spatial_dims](dropout)
        self.laterals = nn.ModuleList(convolution(channels, features, 1) for channels in in_channels)
        count = min(1, levels - 1) if share_smoothing else levels - 1  # the coarsest map is not smoothed
        self.smoothing = nn.ModuleList(convolution(features, features, 3, padding=1) for _ in range(count))
        self.fusion = block(levels * features, features, 3)
        self.head = convolution(features, out_channels, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, out_channels, h, w[, d]) at the size of the finest of the maps (B, C, h, w[, d])."""
        _check_maps(features, self.in_channels)
        coarsest = features[-1]
        pooled = [
            _resize(mix(_pool(coarsest, n)), coarsest) for n, mix in zip(self.pool_bins, self.pooled, strict=True)
        ]
        coarsest = self.dropout(self.bottleneck(torch.cat([coarsest, *pooled], dim=1)))
        levels = [lateral(m) for lateral, m in zip(self.laterals, [*features[:-1], coarsest], strict=True)]
        for level in reversed(range(len(levels) - 1)):
            levels[level] = levels[level] + _resize(levels[level + 1], levels[level])
        for level in range(len(levels) - 1):
            # a shared smoothing convolution is the only one in its list
            levels[level] = self.smoothing[level % len(self.smoothing)](levels[level])
        fused = self.fusion(torch.cat([levels[0], *(_resize(m, levels[0]) for m in levels[1:])], dim=1))
        logits: Tensor = self.head(fused)
        return logits


class ResidualUNetDecoder(nn.Module):
    """U-Net decoder of MONAI's ``UnetrUpBlock``: a transposed convolution, the skip map, a residual block, per level.

    Args:
        in_channels: channels of each map, fine to coarse: ``backbone.channels``.
        out_channels: classes.
        strides: pixels per position of each map, ``backbone.strides``; each must be twice the one before.
        spatial_dims: 2 or 3.
        norm: a normalization that MONAI's ``get_norm_layer`` knows; ``"instance"`` is what MONAI's own networks use.

    Raises:
        ValueError: when the strides do not double, as those of a ViT; use :class:`UPerNetDecoder` there.

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
        self.ups = nn.ModuleList(
            UnetrUpBlock(
                spatial_dims, coarse, fine, kernel_size=3, upsample_kernel_size=2, norm_name=norm, res_block=True
            )
            for fine, coarse in pairwise(in_channels)
        )
        convolution: Callable[..., nn.Module] = Conv[Conv.CONV, spatial_dims]
        self.head = convolution(in_channels[0], out_channels, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Logits (B, out_channels, h, w[, d]) at the size of the finest of the maps (B, C, h, w[, d])."""
        _check_maps(features, self.in_channels)
        x = features[-1]
        for up, skip in zip(reversed(list(self.ups)), reversed(features[:-1]), strict=True):
            grown = up.transp_conv(x)  # type: ignore[operator]
            # an odd map was rounded up when it was halved
            grown = _crop(grown, static_shape(skip)[2:])
            x = up.conv_block(torch.cat([grown, skip], dim=1))  # type: ignore[operator]
        logits: Tensor = self.head(x)
        return logits


class EncoderDecoder(nn.Module):
    """A segmentation network: a backbone, a decoder, and logits of the image's own size, whatever that size is.

    Args:
        backbone: any backbone.
        decoder: a module that takes the backbone's maps; its logits have the size of the finest map.

    Raises:
        ValueError: when the decoder was built for other channels than the backbone has.

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

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, classes, H, W[, D]) of the image ``x`` (B, C, H, W[, D])."""
        logits = self.decoder(self.backbone.forward_features(x))
        # maps cover the image padded to whole patches: grow to that, then crop, so that nothing is shifted
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


def _check_maps(features: Sequence[Tensor], channels: tuple[int, ...]) -> None:
    got = tuple(static_shape(m)[1] for m in features)
    if got != channels:
        raise ValueError(
            f"features must be {len(channels)} maps with {channels} channels, fine to coarse, got {got}; "
            "build the decoder with in_channels=backbone.channels and give it backbone.forward_features(x)"
        )


def _conv_norm_relu(
    spatial_dims: int, before: int, after: int, kernel: int, norm: str | tuple[str, dict[str, Any]]
) -> nn.Sequential:
    if norm == "group":  # of at least four channels each: a map pooled to one cell has no other values to average over
        norm = ("group", {"num_groups": gcd(8, after // 4) if after % 4 == 0 else 1})
    convolution: Callable[..., nn.Module] = Conv[Conv.CONV, spatial_dims]
    return nn.Sequential(
        convolution(before, after, kernel, padding=kernel // 2, bias=False),
        get_norm_layer(norm, spatial_dims, after),
        nn.ReLU(inplace=True),
    )


def _pool(x: Tensor, cells: int) -> Tensor:
    """Average over ``cells`` cells per axis."""
    return F.adaptive_avg_pool2d(x, cells) if x.dim() == 4 else F.adaptive_avg_pool3d(x, cells)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return _interpolate(x, list(static_shape(like)[2:]))


def _interpolate(x: Tensor, size: list[int]) -> Tensor:
    if list(static_shape(x)[2:]) == size:
        return x
    return F.interpolate(x, size=size, mode="bilinear" if x.dim() == 4 else "trilinear", align_corners=False)


def _crop(x: Tensor, size: Sequence[int]) -> Tensor:
    for axis, side in enumerate(size, start=2):
        if static_shape(x)[axis] > side:
            x = x.narrow(axis, 0, side)
    return x
