"""U-Net with a backbone as encoder, for pixel-wise restoration."""

from __future__ import annotations

from collections.abc import Sequence
from math import log2
from types import MethodType
from typing import Any

import torch
from monai.networks.layers import Conv
from monai.networks.nets.flexible_unet import UNetDecoder
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone, static_shape

__all__ = ["BackboneUNet"]


class BackboneUNet(nn.Module):
    """U-Net: a backbone with its stem, MONAI's ``UNetDecoder``, and a 3x3 convolution to the output channels.

    With ``ResNetBackbone(depth=50)`` it is the network of DiRA (arXiv:2204.10437), with 32.1 million parameters.
    MONAI's ``FlexibleUNet`` builds the same network, but here the encoder is a backbone of this package, which methods,
    probes and encoder records support. To fine-tune a pre-trained pair, build the network with other ``out_channels``
    and load ``backbone`` and ``decoder`` strictly; only ``head`` is new.

    Args:
        backbone: a backbone in which each stage (``stage_strides``) halves the image: ResNet, Swin, ConvNeXt.
        out_channels: number of output channels.
        decoder_channels: number of channels after each step of the decoder, coarse to fine, ending at the size of the
            image. A backbone with fewer steps uses the last ones.
        norm: normalization in the decoder, as MONAI names it. ``"instance"`` does not depend on the rest of the batch.

    Attributes:
        multiple: every side of an image must be a multiple of this number.

    Raises:
        ValueError: if the stages of the backbone do not halve the image, there are more steps than
            ``decoder_channels``, or (when called) a side of the image is no multiple of the last stride.

    Example:
        >>> from monai_anat.networks import ResNetBackbone
        >>> network = BackboneUNet(ResNetBackbone(depth=18), out_channels=3)
        >>> network(torch.zeros(2, 1, 64, 96)).shape
        torch.Size([2, 3, 64, 96])
    """

    def __init__(
        self,
        backbone: Backbone,
        out_channels: int = 1,
        *,
        decoder_channels: Sequence[int] = (256, 128, 64, 32, 16),
        norm: str | tuple[str, dict[str, Any]] = "batch",
    ) -> None:
        super().__init__()
        strides, channels = backbone.stage_strides, backbone.stage_channels
        steps = round(log2(strides[-1]))
        if strides[0] < 2 or strides != tuple(2**step for step in range(steps - len(strides) + 1, steps + 1)):
            raise ValueError(
                "backbone must halve the image one stage after the other, as ResNetBackbone, SwinBackbone and "
                f"ConvNeXtBackbone do, got {type(backbone).__name__} with strides {strides}; a U-Net cannot use "
                "stages of equal size"
            )
        if steps > len(decoder_channels):
            raise ValueError(
                f"decoder_channels must name at least {steps} widths, one for each halving of the backbone, got "
                f"{tuple(decoder_channels)}"
            )
        widths = tuple(decoder_channels)[-steps:]
        without_skip = steps - len(strides)  # steps between the finest stage and stride 2
        self.multiple = strides[-1]
        self.out_channels = out_channels
        self.backbone = backbone
        self.decoder = UNetDecoder(
            backbone.spatial_dims,
            encoder_channels=(backbone.in_channels, *[0] * without_skip, *channels),
            decoder_channels=widths,
            act=("relu", {"inplace": True}),
            norm=norm,
            dropout=0.0,
            bias=False,
            upsample="nontrainable",
            pre_conv="default",
            interp_mode="nearest",
            align_corners=None,
            is_pad=False,
        )
        self.head: nn.Module = Conv[Conv.CONV, backbone.spatial_dims](widths[-1], out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Compute values (B, out_channels, H, W[, D]) for every pixel of an image (B, in_channels, H, W[, D])."""
        return self.decode(self.encode(x))

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile ``encode`` and ``decode`` in place with ``torch.compile``; methods call each separately.

        Args:
            args: positional arguments of ``torch.compile``.
            kwargs: keyword arguments of ``torch.compile``.
        """
        for name in ("encode", "decode"):
            compiled = torch.compile(getattr(type(self), name), *args, **kwargs)
            setattr(self, name, MethodType(compiled, self))  # bound, so that a copy of the network calls itself

    def encode(self, x: Tensor) -> list[Tensor]:
        """Compute the maps of all stages of the backbone.

        Args:
            x: image (B, in_channels, H, W[, D]).

        Returns:
            Maps (B, C, h, w[, d]), fine to coarse.

        Raises:
            ValueError: if a side of the image is no multiple of the last stride.
        """
        sides = static_shape(x)[2:]
        if max([side % self.multiple for side in sides]) > 0:
            nearest = [max(1, int(side / self.multiple + 0.5)) * self.multiple for side in sides]
            raise ValueError(
                f"the sides of x must be multiples of {self.multiple}, the last stride of the backbone, got {sides}; "
                f"nearest is {nearest}"
            )
        return self.backbone.forward_stages(x)

    def decode(self, stages: list[Tensor]) -> Tensor:
        """Compute values (B, out_channels, H, W[, D]) from the output of :meth:`encode`."""
        values: Tensor = self.head(self.decoder(stages, len(stages) - 1))
        return values
