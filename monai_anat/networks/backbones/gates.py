"""Attention gates between the stages of a backbone, as part of the encoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.registry import build_backbone

__all__ = ["ContextGate", "GatedBackbone"]


class ContextGate(nn.Module):
    """Scale a feature map by what its channels are worth here, then by what its positions are worth.

    The channel gate is ``sigmoid(mlp(mean over positions) + mlp(maximum over positions))``, with one perceptron of two
    1x1 convolutions; the position gate is ``sigmoid(7x7 convolution of (channel mean, channel maximum))`` of the map so
    scaled. All without bias: the gate of MLVICX (arXiv:2403.11504) in the form of CBAM (Woo et al., ECCV 2018,
    arXiv:1807.06521).

    Args:
        channels: of the map.
        reduction: how much narrower the perceptron is inside.
        kernel_size: side of the position gate's kernel, odd.

    Raises:
        ValueError: for a size below 1 or an even kernel.

    >>> ContextGate(8)(torch.zeros(2, 8, 5, 5)).shape
    torch.Size([2, 8, 5, 5])
    """

    def __init__(self, channels: int, reduction: int = 2, kernel_size: int = 7) -> None:
        super().__init__()
        if min(channels, reduction) < 1 or kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(
                "channels and reduction must be at least 1 and kernel_size odd, got "
                f"channels={channels}, reduction={reduction} and kernel_size={kernel_size}"
            )
        hidden = max(1, channels // reduction)
        self.channel_mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False), nn.ReLU(), nn.Conv2d(hidden, channels, 1, bias=False)
        )
        self.position_conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)

    def channel_gate(self, feature_map: Tensor) -> Tensor:
        """The factor in (0, 1) of every channel, (B, C, 1, 1), of a map (B, C, h, w)."""
        mean, maximum = feature_map.mean((2, 3), keepdim=True), feature_map.amax((2, 3), keepdim=True)
        return torch.sigmoid(self.channel_mlp(mean) + self.channel_mlp(maximum))

    def position_gate(self, feature_map: Tensor) -> Tensor:
        """The factor in (0, 1) of every position, (B, 1, h, w), of a map (B, C, h, w)."""
        mean, maximum = feature_map.mean(1, keepdim=True), feature_map.amax(1, keepdim=True)
        return torch.sigmoid(self.position_conv(torch.cat([mean, maximum], 1)))

    def forward(self, feature_map: Tensor) -> Tensor:
        """The gated map (B, C, h, w) of ``feature_map`` (B, C, h, w)."""
        feature_map = feature_map * self.channel_gate(feature_map)
        return feature_map * self.position_gate(feature_map)


class GatedBackbone(Backbone):
    """A backbone with a gate after every stage, through which the map goes on to the next stage.

    The encoder of MLVICX (arXiv:2403.11504). The maps that decoders and heads see are those of the stages themselves,
    before the gate; the last map has passed the last gate and is what leaves the encoder. A ResNet's stem counts as a
    stage, so its maps are five, from stride 2 on.

    Differs from the released code: there, fine-tuning and evaluation drop the gates, which makes another network of the
    trained weights (the cosine between its features and the trained ones is .36 at initialization). Here the gates are
    part of the encoder: ``save_encoder`` and ``load_encoder`` keep them.

    Args:
        backbone: a backbone of this package in 2D, or what ``config`` makes of it: its class and arguments.
        reduction: how much narrower the perceptrons of the channel gates are inside.
        kernel_size: side of the position gates' kernels, odd.

    Raises:
        TypeError: if the backbone cannot be entered between its stages: a MONAI network, or one with gates already.
        ValueError: for a volumetric backbone, or a record that names no backbone of this package.

    >>> from monai_anat.networks import ResNetBackbone
    >>> encoder = GatedBackbone(backbone=ResNetBackbone(depth=18))
    >>> [tuple(f.shape) for f in encoder.forward_features(torch.zeros(1, 1, 64, 64))][-2:]
    [(1, 256, 4, 4), (1, 512, 2, 2)]
    """

    def __init__(self, *, backbone: Backbone | Mapping[str, Any], reduction: int = 2, kernel_size: int = 7) -> None:
        if isinstance(backbone, Mapping):
            backbone = build_backbone(backbone["backbone"], backbone["kwargs"])
        if type(backbone).forward_stages is Backbone.forward_stages:
            raise TypeError(
                "backbone must be one of this package's, which can be entered between their stages, got a "
                f"{type(backbone).__name__}; gates=False trains a backbone as it is"
            )
        if backbone.spatial_dims != 2:
            raise ValueError(f"gates are for images, got a backbone with spatial_dims={backbone.spatial_dims}; use 2")
        config = {
            "backbone": {"backbone": type(backbone).__name__, "kwargs": backbone.config},
            "reduction": reduction,
            "kernel_size": kernel_size,
        }
        super().__init__(
            config,
            spatial_dims=2,
            in_channels=backbone.in_channels,
            channels=backbone.stage_channels,
            strides=backbone.stage_strides,
        )
        self.backbone = backbone
        self.gates = nn.ModuleList(ContextGate(channels, reduction, kernel_size) for channels in self.channels)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Maps of all stages, each made of the gated map of the stage before it.

        Args:
            x: image (B, in_channels, H, W).

        Returns:
            Maps (B, channels[s], h, w), fine to coarse; the last one gated.
        """
        maps = self.backbone.forward_stages(x, lambda stage, feature_map: self.gates[stage](feature_map))
        maps[-1] = self.gates[-1](maps[-1])
        return maps
