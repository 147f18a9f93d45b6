"""ResNet backbone: MONAI's residual network with feature maps, in 2D and 3D."""

from __future__ import annotations

import torch
from monai.networks.nets import ResNet
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["GrayExpansion", "ResNetBackbone"]

#: depth -> (blocks per stage, kind of block)
LAYOUTS: dict[int, tuple[list[int], str]] = {
    18: ([2, 2, 2, 2], "basic"),
    34: ([3, 4, 6, 3], "basic"),
    50: ([3, 4, 6, 3], "bottleneck"),
    101: ([3, 4, 23, 3], "bottleneck"),
}
#: channels inside the blocks of each stage
WIDTHS = [64, 128, 256, 512]
STEMS = ("plain", "expand")


class ResNetBackbone(Backbone):
    """Residual network (arXiv:1512.03385) as torchvision builds it: a bottleneck has its stride in the 3x3 convolution.

    The layers are those of ``monai.networks.nets.ResNet`` with ``feed_forward=False, shortcut_type="B",
    bias_downsample=False, conv1_t_stride=2``, whose parameter names are torchvision's. Adam uses depth 50, MLVICX
    depth 18. Images may have any size: the side of a map is that of the image divided by the stride, rounded up.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: number of image channels.
        depth: 18, 34, 50 or 101.
        stem: ``"plain"``, or ``"expand"`` for weights trained on three differently normalized channels. The gray
            channel is then expanded inside the network to the three channels that those weights expect, which makes
            features exact at the image border, too. It triples the cost of the first convolution.

    Raises:
        ValueError: if ``depth`` or ``stem`` is unknown, or ``stem="expand"`` has more than one input channel.

    Example:
        >>> backbone = ResNetBackbone(depth=18)
        >>> [tuple(f.shape) for f in backbone.forward_features(torch.zeros(1, 1, 64, 64))]
        [(1, 64, 16, 16), (1, 128, 8, 8), (1, 256, 4, 4), (1, 512, 2, 2)]
    """

    supports_stages = True

    def __init__(self, *, spatial_dims: int = 2, in_channels: int = 1, depth: int = 50, stem: str = "plain") -> None:
        if depth not in LAYOUTS:
            raise ValueError(f"depth must be one of {', '.join(map(str, LAYOUTS))}, got depth={depth}")
        if stem not in STEMS:
            raise ValueError(f"stem must be one of {', '.join(STEMS)}, got stem={stem!r}")
        if stem == "expand" and in_channels != 1:
            raise ValueError(f"stem='expand' takes one gray channel, got in_channels={in_channels}; use stem='plain'")
        blocks, kind = LAYOUTS[depth]
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=tuple(width * (4 if kind == "bottleneck" else 1) for width in WIDTHS),
            strides=(4, 8, 16, 32),
        )
        self.stage_channels = (WIDTHS[0], *self.channels)
        self.stage_strides = (2, *self.strides)
        self.expansion = GrayExpansion(spatial_dims) if stem == "expand" else None
        network = ResNet(
            kind,
            blocks,
            WIDTHS,
            spatial_dims=spatial_dims,
            n_input_channels=3 if stem == "expand" else in_channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            shortcut_type="B",
            feed_forward=False,
            bias_downsample=False,
        )
        self.conv1, self.bn1, self.act, self.maxpool = network.conv1, network.bn1, network.act, network.maxpool
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Compute one feature map per stage, without the stem.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.

        Returns:
            Maps (B, channels[s], h, w[, d]) at strides 4, 8, 16 and 32.

        Raises:
            ValueError: if the image has another rank or number of channels than the backbone.
        """
        return self.forward_stages(x)[1:]

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Compute the map of the stem (stride 2, before max pooling) and one map per stage.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.

        Returns:
            Maps (B, stage_channels[s], h, w[, d]) at strides 2, 4, 8, 16 and 32.
        """
        maps = self.forward_stage(0, [x])
        for stage in range(1, 5):
            maps = maps + self.forward_stage(stage, maps[-1:])
        return maps

    def forward_stage(self, stage: int, inputs: list[Tensor]) -> list[Tensor]:
        """Compute one stage, of which the stem is the first; see :meth:`Backbone.forward_stage`."""
        x = inputs[0]
        if stage == 0:
            self.check_input(x)
            if self.expansion is not None:
                x = self.expansion(x)
            x = self.act(self.bn1(self.conv1(x)))
        elif stage == 1:
            x = self.layer1(self.maxpool(x))
        elif stage == 2:
            x = self.layer2(x)
        elif stage == 3:
            x = self.layer3(x)
        else:
            x = self.layer4(x)
        return [x]


class GrayExpansion(nn.Module):
    """Expand one normalized gray channel to the three channels that published weights were trained on.

    Channel c is ``x * scale[c] + shift[c]``: undo one normalization, apply the other.

    Args:
        spatial_dims: 2 for images, 3 for volumes.

    >>> GrayExpansion(2)(torch.zeros(1, 1, 4, 4)).shape
    torch.Size([1, 3, 4, 4])
    """

    def __init__(self, spatial_dims: int) -> None:
        super().__init__()
        self.scale: Tensor  # TorchScript cannot resolve these annotations in the class body
        self.shift: Tensor
        self.register_buffer("scale", torch.ones(3, *[1] * spatial_dims))
        self.register_buffer("shift", torch.zeros(3, *[1] * spatial_dims))

    def forward(self, x: Tensor) -> Tensor:
        """Expand an image (B, 1, H, W[, D]) to (B, 3, H, W[, D])."""
        return x * self.scale + self.shift
