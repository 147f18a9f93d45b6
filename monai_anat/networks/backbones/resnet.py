"""Residual networks under torchvision's parameter names, in 2D and 3D."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone, Between

__all__ = ["ResNetBackbone"]

#: depth -> (blocks per stage, whether blocks are bottlenecks)
LAYOUTS: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
}
STEMS = ("plain", "expand")


class ResNetBackbone(Backbone):
    """Residual network (arXiv 1512.03385), as torchvision builds it (the stride of a bottleneck is in its 3x3).

    Adam uses depth 50, MLVICX depth 18. Images of any size are taken; a map's side is the image's divided by the
    stride, rounded up.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        depth: 18, 34, 50 or 101.
        stem: ``"plain"``, or ``"expand"`` for weights trained on three differently normalized channels where exact
            borders matter: the one gray channel is expanded inside the network to the three that those weights know,
            and the first convolution keeps its three channels. Costs three times the stem.

    Raises:
        ValueError: for another depth or stem, or ``stem="expand"`` with more than one input channel.

    Example:
        >>> backbone = ResNetBackbone(depth=18)
        >>> [tuple(f.shape) for f in backbone.forward_features(torch.zeros(1, 1, 64, 64))]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4), (1, 512, 2, 2)]
    """

    def __init__(self, *, spatial_dims: int = 2, in_channels: int = 1, depth: int = 50, stem: str = "plain") -> None:
        if depth not in LAYOUTS:
            raise ValueError(f"depth must be one of {', '.join(map(str, LAYOUTS))}, got depth={depth}")
        if stem not in STEMS:
            raise ValueError(f"stem must be one of {', '.join(STEMS)}, got stem={stem!r}")
        if stem == "expand" and in_channels != 1:
            raise ValueError(f"stem='expand' takes one gray channel, got in_channels={in_channels}; use stem='plain'")
        blocks, bottleneck = LAYOUTS[depth]
        expansion = 4 if bottleneck else 1
        config: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "depth": depth,
            "stem": stem,
        }
        super().__init__(
            config,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=tuple(64 * 2**s * expansion for s in range(4)),
            strides=(4, 8, 16, 32),
        )
        self.stage_channels = (64, *self.channels)
        self.stage_strides = (2, *self.strides)
        self.expansion = GrayExpansion(spatial_dims) if stem == "expand" else None
        self.conv1 = _convolution(spatial_dims, 3 if stem == "expand" else in_channels, 64, 7, 2)
        self.bn1 = _norm(spatial_dims, 64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool: nn.MaxPool2d | nn.MaxPool3d = (nn.MaxPool2d if spatial_dims == 2 else nn.MaxPool3d)(3, 2, 1)
        block_class = _Bottleneck if bottleneck else _BasicBlock
        before = 64
        stages = []
        for s, count in enumerate(blocks):
            width, after = 64 * 2**s, self.channels[s]
            first = block_class(spatial_dims, before, width, after, 1 if s == 0 else 2)
            rest = (block_class(spatial_dims, after, width, after, 1) for _ in range(count - 1))
            stages.append(nn.Sequential(first, *rest))
            before = after
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Conv3d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Maps after each of the four stages.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.

        Returns:
            Maps (B, channels[s], h, w[, d]) at strides 4, 8, 16 and 32.

        Raises:
            ValueError: for another rank or number of channels.
        """
        return self.forward_stages(x)[1:]

    def forward_stages(self, x: Tensor, between: Between | None = None) -> list[Tensor]:
        """Maps after the stem (stride 2, before its pooling) and after each of the four stages.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.
            between: see :meth:`Backbone.forward_stages`.

        Returns:
            Maps (B, stage_channels[s], h, w[, d]) at strides 2, 4, 8, 16 and 32.
        """
        self.check_input(x)
        if self.expansion is not None:
            x = self.expansion(x)
        maps = [self.relu(self.bn1(self.conv1(x)))]
        for number, stage in enumerate((self.layer1, self.layer2, self.layer3, self.layer4)):
            x = maps[-1] if between is None else between(number, maps[-1])
            maps.append(stage(self.maxpool(x) if number == 0 else x))
        return maps


class GrayExpansion(nn.Module):
    """One normalized gray channel -> the three channels that published weights were trained on.

    Channel c is ``x * scale[c] + shift[c]``: undo the one normalization, apply the other.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, spatial_dims: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(3, *[1] * spatial_dims))
        self.register_buffer("shift", torch.zeros(3, *[1] * spatial_dims))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, ...) -> (B, 3, ...)."""
        return x * self.scale + self.shift


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut."""

    def __init__(self, spatial_dims: int, before: int, width: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(spatial_dims, before, width, 3, stride)
        self.bn1 = _norm(spatial_dims, width)
        self.conv2 = _convolution(spatial_dims, width, after, 3, 1)
        self.bn2 = _norm(spatial_dims, after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(spatial_dims, before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)) + shortcut)
        return x


class _Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions and the shortcut."""

    def __init__(self, spatial_dims: int, before: int, width: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(spatial_dims, before, width, 1, 1)
        self.bn1 = _norm(spatial_dims, width)
        self.conv2 = _convolution(spatial_dims, width, width, 3, stride)
        self.bn2 = _norm(spatial_dims, width)
        self.conv3 = _convolution(spatial_dims, width, after, 1, 1)
        self.bn3 = _norm(spatial_dims, after)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(spatial_dims, before, after, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        x = self.relu(self.bn3(self.conv3(x)) + shortcut)
        return x


def _shortcut(spatial_dims: int, before: int, after: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and before == after:
        return None
    return nn.Sequential(_convolution(spatial_dims, before, after, 1, stride), _norm(spatial_dims, after))


def _convolution(spatial_dims: int, before: int, after: int, kernel: int, stride: int) -> nn.Conv2d | nn.Conv3d:
    cls = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
    return cls(before, after, kernel, stride, padding=kernel // 2, bias=False)


def _norm(spatial_dims: int, channels: int) -> nn.BatchNorm2d | nn.BatchNorm3d:
    return nn.BatchNorm2d(channels) if spatial_dims == 2 else nn.BatchNorm3d(channels)
