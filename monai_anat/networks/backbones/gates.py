"""Attention gates between the stages of a backbone."""

# ruff: noqa: RUF005 (TorchScript cannot unpack lists)
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.registry import build_backbone

__all__ = ["ContextGate", "GatedBackbone"]


class ContextGate(nn.Module):
    """Channel attention followed by spatial attention on a feature map.

    The channel gate is ``sigmoid(mlp(mean over positions) + mlp(maximum over positions))``, with one perceptron of two
    1x1 convolutions. The spatial gate is ``sigmoid(7x7 convolution of (channel mean, channel maximum))`` of the
    channel-gated map. No layer has a bias. This is the gate of MLVICX (arXiv:2403.11504) in the form of CBAM (Woo et
    al., ECCV 2018, arXiv:1807.06521).

    Args:
        channels: number of channels of the map.
        reduction: ratio of the channels to the perceptron's hidden width.
        kernel_size: side of the spatial gate's kernel, an odd number.

    Raises:
        ValueError: if a size is below 1 or ``kernel_size`` is even.

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
        """Compute the weight in (0, 1) of every channel: (B, C, h, w) -> (B, C, 1, 1)."""
        mean, maximum = feature_map.mean((2, 3), keepdim=True), feature_map.amax((2, 3), keepdim=True)
        return torch.sigmoid(self.channel_mlp(mean) + self.channel_mlp(maximum))

    def position_gate(self, feature_map: Tensor) -> Tensor:
        """Compute the weight in (0, 1) of every position: (B, C, h, w) -> (B, 1, h, w)."""
        mean, maximum = feature_map.mean(1, keepdim=True), feature_map.amax(1, keepdim=True)
        return torch.sigmoid(self.position_conv(torch.cat([mean, maximum], 1)))

    def forward(self, feature_map: Tensor) -> Tensor:
        """Apply both gates to a map (B, C, h, w)."""
        feature_map = feature_map * self.channel_gate(feature_map)
        return feature_map * self.position_gate(feature_map)


class GatedBackbone(Backbone):
    """Backbone with an attention gate after every stage; the next stage starts from the gated map.

    This is the encoder of MLVICX (arXiv:2403.11504). Decoders and heads get the map of each stage before its gate. The
    last map is gated. The stem of a ResNet counts as a stage, so a ResNet has five maps, starting at stride 2.

    Differs from the released code: there, fine-tuning and evaluation drop the gates, which changes the function of the
    trained weights (the cosine between the features with and without gates is 0.36 at initialization). Here the gates
    are part of the encoder: ``save_encoder`` and ``load_encoder`` keep them.

    Args:
        backbone: a 2D backbone of this package, or its recorded class name and arguments.
        reduction: ratio of the channels to the hidden width in the channel gates.
        kernel_size: side of the kernels in the spatial gates, an odd number.

    Raises:
        TypeError: if the backbone cannot be run stage by stage: a network of another library, or one with gates.
        ValueError: if the backbone is 3D, or the record does not name a backbone of this package.

    >>> from monai_anat.networks import ResNetBackbone
    >>> encoder = GatedBackbone(backbone=ResNetBackbone(depth=18))
    >>> [tuple(f.shape) for f in encoder.forward_features(torch.zeros(1, 1, 64, 64))][-2:]
    [(1, 256, 4, 4), (1, 512, 2, 2)]
    """

    def __init__(self, *, backbone: Backbone | Mapping[str, Any], reduction: int = 2, kernel_size: int = 7) -> None:
        if isinstance(backbone, Mapping):
            backbone = build_backbone(backbone["backbone"], backbone["kwargs"])
        if not backbone.supports_stages:
            raise TypeError(
                "backbone must be one of this package's, which run stage by stage, got a "
                f"{type(backbone).__name__}; set gates=False to train a backbone without gates"
            )
        if backbone.spatial_dims != 2:
            raise ValueError(f"gates are for images, got a backbone with spatial_dims={backbone.spatial_dims}; use 2")
        super().__init__(
            spatial_dims=2,
            in_channels=backbone.in_channels,
            channels=backbone.stage_channels,
            strides=backbone.stage_strides,
        )
        self.backbone = backbone
        self.gates = nn.ModuleList(ContextGate(channels, reduction, kernel_size) for channels in self.channels)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Compute the maps of all stages, each from the gated map of the previous stage.

        Args:
            x: image (B, in_channels, H, W).

        Returns:
            Maps (B, channels[s], h, w), fine to coarse. The last one is gated.
        """
        maps: list[Tensor] = []
        inputs = [x]
        last = len(self.gates) - 1
        for stage, gate in enumerate(self.gates):
            outputs = self.backbone.forward_stage(stage, inputs)
            gated = gate(outputs[0])
            maps.append(gated if stage == last else outputs[0])
            inputs = [gated] + outputs[1:]
        return maps
