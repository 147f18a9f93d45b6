"""Moving the first layer of a network between gray and color images, exactly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Normalization", "convert_stem"]


@dataclass(frozen=True)
class Normalization:
    """What is subtracted from images in [0, 1], and what they are then divided by; one value, or one per channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class _Stem:
    """The first layer of an architecture, and where a constant added to its output can be put."""

    weight: str
    constant: str
    sign: float


#: a bias takes the constant up; without one the running mean of the normalization that follows does, negatively
STEMS = (
    _Stem("patch_embed.proj.weight", "patch_embed.proj.bias", 1.0),
    _Stem("downsample_layers.0.0.weight", "downsample_layers.0.0.bias", 1.0),
    _Stem("conv1.weight", "bn1.running_mean", -1.0),
)
EXPANSION_SCALE, EXPANSION_SHIFT = "expansion.scale", "expansion.shift"


def convert_stem(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    source: Normalization,
    target: Normalization,
) -> tuple[dict[str, Tensor], str | None]:
    """Fit the first layer of ``state`` to the number of input channels that the backbone has.

    With W and b the weight and bias for three channels normalized by (mu_c, s_c), and the one gray channel normalized
    by (mu, s), ``W' = s * sum_c W_c / s_c`` and ``b' = b + sum W_c (mu - mu_c) / s_c``, the sum also over the kernel.
    With equal normalizations that is the plain sum over the channels. Exact for every output that sees no padding:
    everywhere in Swin, ViT and ConvNeXt, in the interior of a ResNet (padding stands for another gray level in each
    channel; the outermost outputs differ, and not slightly). A ResNet with ``stem="expand"`` is exact everywhere.
    From one channel to several, the weight is repeated and divided by their number: exact for gray images.

    Args:
        state: tensors under the backbone's names.
        own: the backbone's state dict.
        source: normalization of the images that ``state`` was trained on.
        target: normalization of the images that the backbone will see.

    Returns:
        The state with the stem converted, and a sentence on what was done, or None.

    Example:
        >>> file = {"patch_embed.proj.weight": torch.ones(1, 3, 1, 1), "patch_embed.proj.bias": torch.zeros(1)}
        >>> own = {"patch_embed.proj.weight": torch.zeros(1, 1, 1, 1), "patch_embed.proj.bias": torch.zeros(1)}
        >>> half = Normalization((0.5,), (0.5,))
        >>> convert_stem(file, own, half, half)[0]["patch_embed.proj.weight"].item()
        3.0
    """
    converted = dict(state)
    stem = next((s for s in STEMS if s.weight in own and s.weight in state), None)
    if stem is None:
        return converted, None
    weight = state[stem.weight]
    if weight.dim() != own[stem.weight].dim():
        return converted, None
    have, want = weight.shape[1], own[stem.weight].shape[1]
    if EXPANSION_SCALE in own and have == want:
        if EXPANSION_SCALE in state:
            return converted, None
        mean, std, new_mean, new_std = _statistics(source, target, have, weight)
        shape = own[EXPANSION_SCALE].shape
        converted[EXPANSION_SCALE] = (new_std / std).float().reshape(shape)
        converted[EXPANSION_SHIFT] = ((new_mean - mean) / std).float().reshape(shape)
        return converted, f"the gray channel is expanded to {have} channels inside the network"
    if have == want or (have > 1 and want > 1):
        return converted, None
    if have == 1:
        repeats = [1, want] + [1] * (weight.dim() - 2)
        converted[stem.weight] = weight.repeat(repeats) / want
        return converted, f"the stem was repeated for {want} channels: exact for gray images"
    mean, std, new_mean, new_std = _statistics(source, target, have, weight)
    exact = weight.double()
    converted[stem.weight] = (exact * (new_std / std)).sum(1, keepdim=True).to(weight.dtype)
    note = f"the stem was converted from {have} channels to 1"
    if bool((new_mean != mean).any()) and stem.constant in state:
        if stem.sign < 0:
            note += ", exact but at the image's border; a ResNetBackbone with stem='expand' is exact there too"
        constant = (exact * ((new_mean - mean) / std)).flatten(1).sum(1)
        before = state[stem.constant]
        converted[stem.constant] = (before.double() + stem.sign * constant).to(before.dtype)
    return converted, note


def _statistics(
    source: Normalization, target: Normalization, channels: int, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and deviation per channel before and after, in float64, shaped to multiply a weight (O, C, k, k)."""
    shape = (1, channels) + (1,) * (weight.dim() - 2)
    values = []
    for numbers in (source.mean, source.std, target.mean, target.std):
        tensor = torch.tensor(numbers, dtype=torch.float64, device=weight.device)
        values.append(tensor.expand(channels).reshape(shape))
    return values[0], values[1], values[2], values[3]
