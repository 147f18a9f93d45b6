"""MONAI's own networks, and other people's, as backbones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from monai.networks.nets import UNETR, FlexibleUNet, ResNet, SwinUNETR, ViT
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone, static_shape

__all__ = ["AdaptedBackbone", "as_backbone"]

Reader = Callable[[nn.Module, Tensor], list[Tensor]]

#: levels taken from a network whose maps all have one size
LEVELS = 4
#: where an output object or dict, such as those of Hugging Face, has its maps, or the tokens after the last norm
OUTPUTS = ("feature_maps", "last_hidden_state")
#: how many tokens may stand before those of the image: none, class, distillation beside it, or four registers beside it
PREFIXES = (0, 1, 2, 5)


class AdaptedBackbone(Backbone):
    """A network of another library under the contract of this package; made by :func:`as_backbone`.

    It has no record, so :func:`save_encoder` refuses it: save its ``state_dict()`` and build it in your own code.

    Args:
        network: the part of the network that makes features.
        read: (network, image) -> maps, fine to coarse; a function at module level, so that the backbone can be pickled.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        image_size: pixels per axis of an image that the network takes; one such image is sent through it once.

    Raises:
        ValueError: when a map's side is not the same fraction of the image's along every axis.
    """

    def __init__(
        self, network: nn.Module, read: Reader, *, spatial_dims: int, in_channels: int, image_size: Sequence[int]
    ) -> None:
        maps = _probe(network, read, in_channels, image_size)
        strides = []
        for feature_map in maps:
            ratios = {side / small for side, small in zip(image_size, feature_map.shape[2:], strict=True)}
            if len(ratios) > 1 or not ratios.copy().pop().is_integer():
                raise ValueError(
                    f"network must shrink every axis by the same whole number, got a {tuple(feature_map.shape[2:])} "
                    f"map of a {tuple(image_size)} image; give an image_size that divides evenly, or use one stride "
                    "for all axes"
                )
            strides.append(int(ratios.pop()))
        super().__init__(
            {},
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=tuple(feature_map.shape[1] for feature_map in maps),
            strides=tuple(strides),
        )
        self.network = network
        self.read = read

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C, h, w[, d]) of the image (B, in_channels, H, W[, D]), fine to coarse.

        Raises:
            ValueError: for another rank or number of channels.
        """
        self.check_input(x)
        return self.read(self.network, x)


def as_backbone(network: nn.Module, *, image_size: int | Sequence[int] | None = None) -> Backbone:
    """Put another library's network under the backbone contract, so that every method and decoder here takes it.

    Known are MONAI's encoders of SwinUNETR, UNETR and FlexibleUNet (ResNet or EfficientNet), SwinTransformer, ViT and
    ResNet. The weights are shared with the network that is given. Decoders and classification heads are not used.
    The maps of MONAI's SwinTransformer are normalized without learned parameters.

    Any other encoder is called with the image alone, and read by the layout of what it returns: a map (B, C, h, w[, d])
    or tokens (B, N, C), with or without class and register tokens before them; several of these in a list, a tuple or
    a dict, in any order; or an output object with ``feature_maps`` or ``last_hidden_state``, as Hugging Face's have.
    Pooled vectors beside the maps are passed over.

    Args:
        network: an encoder, or a backbone, which is returned as it is.
        image_size: pixels per axis of an image that the network takes. Needed for UNETR and ViT, whose positions are
            fixed, unless the image is square or the network's ``config`` says it; otherwise 64 in 2D and 32 in 3D are
            tried.

    Raises:
        TypeError: when the network is none of these.
        ValueError: when its maps do not fit the contract, or it does not take an image of ``image_size``.

    Example:
        >>> from monai.networks.nets import SwinUNETR
        >>> backbone = as_backbone(SwinUNETR(1, 2, spatial_dims=2, feature_size=12, depths=(1, 1, 1, 1)))
        >>> backbone.strides, backbone.channels
        ((2, 4, 8, 16, 32), (12, 24, 48, 96, 192))
    """
    if isinstance(network, Backbone):
        return network
    trunk, read = _trunk(network)
    first = next((m for m in trunk.modules() if isinstance(m, nn.Conv2d | nn.Conv3d)), None)
    if first is None:
        raise ValueError(
            f"network must begin with a convolution, got a {type(network).__name__} without one; "
            "build MONAI's ViT with proj_type='conv'"
        )
    dims = 2 if isinstance(first, nn.Conv2d) else 3
    if image_size is None:
        image_size = getattr(getattr(network, "config", None), "image_size", None)
    if image_size is not None:
        size = [image_size] * dims if isinstance(image_size, int) else list(image_size)
    elif isinstance(trunk, ViT):
        patches = trunk.patch_embedding.n_patches
        size = [round(patches ** (1 / dims)) * first.stride[0]] * dims
    else:
        size = [64 if dims == 2 else 32] * dims
    return AdaptedBackbone(trunk, read, spatial_dims=dims, in_channels=first.in_channels, image_size=size)


def _trunk(network: nn.Module) -> tuple[nn.Module, Reader]:
    """The part that makes features, and how its maps are read."""
    if isinstance(network, SwinUNETR):
        return network.swinViT, _read_list
    if isinstance(network, FlexibleUNet):
        return network.encoder, _read_list
    if isinstance(network, UNETR):
        return network.vit, _read_vit
    if isinstance(network, SwinTransformer):
        return network, _read_list
    if isinstance(network, ViT):
        return network, _read_vit
    if isinstance(network, ResNet):
        return network, _read_resnet
    if any(isinstance(module, nn.Conv2d | nn.Conv3d) for module in network.modules()):
        return network, _read_output
    raise _unknown(network)


def _unknown(network: nn.Module) -> TypeError:
    return TypeError(
        "network must be a backbone of monai_anat, one of MONAI's SwinUNETR, SwinTransformer, UNETR, ViT, ResNet and "
        "FlexibleUNet, or an encoder that begins with a convolution and returns maps smaller than the image, or "
        f"tokens, got {type(network).__name__}; take the encoder's part of it, or subclass "
        "monai_anat.networks.Backbone, whose only method is forward_features"
    )


def _read_output(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Maps of any encoder, fine to coarse."""
    found: Any = network(x)
    for name in OUTPUTS:
        inside = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
        if inside is not None:
            found = inside
            break
    found = list(found.values()) if isinstance(found, Mapping) else [found] if isinstance(found, Tensor) else found
    parts = found if isinstance(found, (list, tuple)) else []
    maps = [_as_map(part, x) for part in parts if isinstance(part, Tensor) and part.ndim in (3, x.ndim)]
    sizes = [static_shape(feature_map)[2:] for feature_map in maps]
    if not maps or static_shape(x)[2:] in sizes:
        raise _unknown(network)
    order = sorted(range(len(maps)), key=lambda number: -torch.Size(sizes[number]).numel())
    return [maps[number] for number in order]


def _as_map(part: Tensor, x: Tensor) -> Tensor:
    """A map as it is, and the tokens (B, N, C) of an image ``x`` as one; what stands before them is left away."""
    if part.ndim == x.ndim:
        return part
    count, size = static_shape(part)[1], static_shape(x)[2:]
    strides = [stride for stride in range(1, min(size) + 1) if not any(side % stride for side in size)]
    grids = [[side // stride for side in size] for stride in strides]  # the finest one that there are tokens for
    grid = next((grid for grid in grids if count - torch.Size(grid).numel() in PREFIXES), None)
    if grid is None:
        raise ValueError(
            f"network must return one token for each cell of a grid, and {PREFIXES} before them, got {count} tokens of "
            f"a {tuple(size)} image; give an image_size that divides evenly"
        )
    tokens = part[:, count - torch.Size(grid).numel() :]
    feature_map: Tensor = tokens.transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)
    return feature_map


def _read_list(network: nn.Module, x: Tensor) -> list[Tensor]:
    return list(network(x))


def _read_resnet(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Maps after each stage; the classification layer of the forward pass is left away."""
    x = network.act(network.bn1(network.conv1(x)))  # type: ignore[operator]
    if not network.no_max_pool:
        x = network.maxpool(x)  # type: ignore[operator]
    maps = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)  # type: ignore[operator]
        maps.append(x)
    return maps


def _read_vit(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Maps from evenly spaced depths at the one stride of a ViT, the last one normalized."""
    if not isinstance(network, ViT):
        raise TypeError(f"network must be MONAI's ViT, got {type(network).__name__}")
    tokens = network.patch_embedding(x)  # (B, N, D)
    count, size = static_shape(tokens)[1], static_shape(x)[2:]
    stride = round((torch.Size(size).numel() / count) ** (1 / len(size)))
    grid = [side // stride for side in size]
    skip = 0
    if hasattr(network, "cls_token"):
        skip = 1
        tokens = torch.cat([network.cls_token.expand(tokens.shape[0], -1, -1), tokens], dim=1)
    depth = len(network.blocks)
    ends = {depth * (level + 1) // LEVELS for level in range(LEVELS)} if depth >= LEVELS else {depth}
    maps = []
    for number, block in enumerate(network.blocks, start=1):
        tokens = block(tokens)
        if number in ends:
            maps.append(network.norm(tokens) if number == depth else tokens)
    return [m[:, skip:].transpose(1, 2).unflatten(2, grid) for m in maps]  # (B, D, h, w)


def _probe(network: nn.Module, read: Reader, in_channels: int, image_size: Sequence[int]) -> list[Tensor]:
    """The maps of one empty image, without a trace of it in the network's statistics."""
    parameter = next(network.parameters())
    training = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad():
            return read(network, torch.zeros(1, in_channels, *image_size, device=parameter.device))
    except (RuntimeError, ValueError) as error:
        raise ValueError(
            f"network does not take an image of size {tuple(image_size)}: {error}; "
            "give the size that it was built for as image_size"
        ) from error
    finally:
        for module, mode in training.items():
            module.training = mode
