"""Adapters that turn networks of MONAI and other libraries into backbones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from monai.networks.nets import (
    UNETR,
    BasicUNet,
    DenseNet,
    DynUNet,
    EfficientNet,
    FlexibleUNet,
    ResNet,
    SegResNet,
    SwinUNETR,
    UNet,
    ViT,
)
from monai.networks.nets.swin_unetr import SwinTransformer
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone, static_shape

__all__ = ["AdaptedBackbone", "as_backbone"]

Reader = Callable[[nn.Module, Tensor], list[Tensor]]

#: number of maps taken from a network whose maps all have one size
LEVELS = 4
#: names under which an output object or dictionary, as of Hugging Face, has its maps or its normalized tokens
OUTPUTS = ("feature_maps", "last_hidden_state")
#: numbers of tokens before those of the image: none, class, distillation beside it, or four registers beside it
PREFIXES = (0, 1, 2, 5)
#: attributes under which networks of other libraries keep their encoder
ENCODER_ATTRIBUTES = ("features", "encoder", "backbone", "trunk", "body", "model")


class AdaptedBackbone(Backbone):
    """Backbone around a network of another library, built by :func:`as_backbone`.

    There is no record from which it could be built again, so :func:`save_encoder` refuses it. Save the state dict of
    ``network`` and wrap the network again after loading.

    Args:
        network: the part of the network that computes features.
        read: function (network, image) -> maps, fine to coarse. Define it at module level, so that the backbone can be
            pickled.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: number of image channels.
        image_size: pixels per axis of an image that the network accepts. One such image is sent through the network.

    Raises:
        ValueError: if the stride of a map is not the same whole number along every axis.
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
            {},  # the arguments are no JSON values
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=tuple(feature_map.shape[1] for feature_map in maps),
            strides=tuple(strides),
        )
        self.network = network
        self.read = read

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps of an image.

        Args:
            x: image (B, in_channels, H, W[, D]).

        Returns:
            Maps (B, C, h, w[, d]), fine to coarse.

        Raises:
            ValueError: if the image has another rank or number of channels than the backbone.
        """
        self.check_input(x)
        return self.read(self.network, x)


def as_backbone(network: nn.Module, *, image_size: int | Sequence[int] | None = None) -> Backbone:
    """Wrap a network of another library as a backbone, for use with every method and decoder of this package.

    Supported are MONAI's ResNet, DenseNet, EfficientNet, SwinTransformer and ViT, and the encoders of its SwinUNETR,
    UNETR, FlexibleUNet, SegResNet, BasicUNet and DynUNet; DenseNets of torchvision and torchxrayvision, which keep
    their layers in ``features``; and other encoders by their output. The weights are shared with the given network.
    Decoders and classification heads are not used. MONAI's SwinTransformer normalizes its maps without learned
    parameters.

    Any other encoder is called with the image alone. It may return a map (B, C, h, w[, d]) or tokens (B, N, C), with or
    without class and register tokens before them; several of these in a list, tuple or dictionary, in any order; or an
    output object with ``feature_maps`` or ``last_hidden_state``, as in Hugging Face's libraries. Pooled vectors are
    ignored.

    Args:
        network: an encoder, or a backbone, which is returned unchanged.
        image_size: pixels per axis of an image that the network accepts. Required for UNETR and ViT, which have fixed
            positions, unless the image is square or ``network.config`` names the size. Other networks are tried with 64
            pixels in 2D and 32 in 3D.

    Returns:
        The backbone.

    Raises:
        TypeError: if the network is none of these. The message names the attribute to pass, if it is found.
        ValueError: if the maps do not fit the contract, or the network does not accept an image of ``image_size``.

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
    """The part that computes features, and the function that reads its maps."""
    layers = _layers(network)
    if layers is not None:
        return layers, _read_in_sequence
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
    if isinstance(network, UNet):
        raise TypeError(
            "network must have an encoder apart from its decoder, and MONAI's UNet nests one in the other; use "
            "BasicUNet, DynUNet, SegResNet or FlexibleUNet"
        )
    if any(isinstance(module, nn.Conv2d | nn.Conv3d) for module in network.modules()):
        return network, _read_output
    raise _unknown(network)


def _layers(network: nn.Module) -> nn.Sequential | None:
    """The layers of encoders that apply one after the other, under their own names; None for other networks."""
    named = OrderedDict(network.named_children())
    features = named.get("features", network)
    if isinstance(network, SegResNet):
        return _in_sequence(named, ("convInit", "down_layers"))
    if isinstance(network, BasicUNet):
        return _in_sequence(named, ("conv_0", "down_1", "down_2", "down_3", "down_4"))
    if isinstance(network, DynUNet):
        return _in_sequence(named, ("input_block", "downsamples", "bottleneck"))
    if isinstance(network, EfficientNet):
        stem, head = ("_conv_stem_padding", "_conv_stem", "_bn0"), ("_conv_head_padding", "_conv_head", "_bn1")
        layers = [*_in_sequence(named, stem).named_children(), ("stem_act", network._swish)]
        layers += _in_sequence(named, ("_blocks",)).named_children()
        layers += [*_in_sequence(named, head).named_children(), ("head_act", network._swish)]
        return nn.Sequential(OrderedDict(layers))
    if isinstance(network, DenseNet) or hasattr(features, "denseblock1"):
        # the classifier applies the last rectifier
        return nn.Sequential(OrderedDict([*features.named_children(), ("last_act", nn.ReLU())]))
    return None


def _in_sequence(named: Mapping[str, nn.Module], names: Iterable[str]) -> nn.Sequential:
    """Some layers in this order; the layers of a list follow one another."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for name in names:
        inner = named[name]
        if isinstance(inner, nn.ModuleList) or name == "_blocks":
            layers |= {f"{name}_{number}": layer for number, layer in enumerate(inner.children())}
        else:
            layers[name] = inner
    return nn.Sequential(layers)


def _unknown(network: nn.Module) -> TypeError:
    found = [name for name in ENCODER_ATTRIBUTES if isinstance(getattr(network, name, None), nn.Module)]
    way_out = f"pass network.{found[0]}" if found else "take the encoder's part of it"
    return TypeError(
        "network must be a backbone of monai_anat, one of MONAI's ResNet, DenseNet, EfficientNet, SwinTransformer, "
        "ViT, SwinUNETR, UNETR, FlexibleUNet, SegResNet, BasicUNet and DynUNet, or an encoder that begins with a "
        f"convolution and returns maps smaller than the image, or tokens, got {type(network).__name__}; {way_out}, or "
        "subclass monai_anat.networks.Backbone, whose only method is forward_features"
    )


def _read_output(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Read the maps of any encoder, fine to coarse."""
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
    """Convert the tokens (B, N, C) of an image ``x`` to a map, without class and register tokens; maps stay."""
    if part.ndim == x.ndim:
        return part
    count, size = static_shape(part)[1], static_shape(x)[2:]
    strides = [stride for stride in range(1, min(size) + 1) if not any(side % stride for side in size)]
    grids = [[side // stride for side in size] for stride in strides]  # the finest one with enough tokens is used
    grid = next((grid for grid in grids if count - torch.Size(grid).numel() in PREFIXES), None)
    if grid is None:
        raise ValueError(
            f"network must return one token for each cell of a grid, and {PREFIXES} before them, got {count} tokens of "
            f"a {tuple(size)} image; give an image_size that divides evenly"
        )
    tokens = part[:, count - torch.Size(grid).numel() :]
    feature_map: Tensor = tokens.transpose(1, 2).unflatten(2, grid)  # (B, C, h, w)
    return feature_map


def _read_in_sequence(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Apply layers one after the other, and keep the last map of every size below the image's."""
    size = static_shape(x)[2:]
    maps: list[Tensor] = []
    for layer in network.children():
        x = layer(x)
        shape = static_shape(x)[2:]
        if maps and static_shape(maps[-1])[2:] == shape:
            maps[-1] = x
        elif all(side < full for side, full in zip(shape, size, strict=True)):
            maps.append(x)
    return maps


def _read_list(network: nn.Module, x: Tensor) -> list[Tensor]:
    return list(network(x))


def _read_resnet(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Read the map of each stage, without the classification layer."""
    x = network.act(network.bn1(network.conv1(x)))  # type: ignore[operator]
    if not network.no_max_pool:
        x = network.maxpool(x)  # type: ignore[operator]
    maps = []
    for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
        x = stage(x)  # type: ignore[operator]
        maps.append(x)
    return maps


def _read_vit(network: nn.Module, x: Tensor) -> list[Tensor]:
    """Read maps from evenly spaced depths of a ViT; the last one is normalized."""
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
    """Compute the maps of one empty image, without changing the network's statistics."""
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
