"""Exact conversion of a network's first layer between gray and color images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Normalization", "convert_stem", "needs_statistics"]


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation by which images in [0, 1] are normalized; one value each, or one per channel.

    Attributes:
        mean: subtracted from the image.
        std: what the difference is divided by.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class _Stem:
    """The first layer of an architecture, and the tensor that can absorb a constant added to its output."""

    weight: str
    constant: str
    sign: float


#: a bias absorbs the constant; without one, the running mean of the following normalization does, with minus sign
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
    """Convert the first layer of ``state`` to the number of input channels of the backbone.

    Let W and b be the weight and bias for three channels normalized by (mu_c, s_c), and let the one gray channel be
    normalized by (mu, s). Then ``W' = s * sum_c W_c / s_c`` and ``b' = b + sum W_c (mu - mu_c) / s_c``, where the last
    sum also runs over the kernel. With equal normalizations this is the sum over the channels. The conversion is exact
    for every output that does not see zero padding: everywhere in Swin, ViT and ConvNeXt, and in the interior of a
    ResNet. There the outermost outputs differ noticeably, because padding stands for another gray level in each
    channel; ``stem="expand"`` is exact everywhere. From one channel to several, the weight is repeated and divided by
    their number, which is exact for gray images.

    Args:
        state: tensors under the backbone's names.
        own: state dict of the backbone.
        source: normalization of the images that ``state`` was trained on.
        target: normalization of the images that the backbone will see.

    Returns:
        The state with the converted stem, and a sentence on what was done, or None.

    Example:
        >>> file = {"patch_embed.proj.weight": torch.ones(1, 3, 1, 1), "patch_embed.proj.bias": torch.zeros(1)}
        >>> own = {"patch_embed.proj.weight": torch.zeros(1, 1, 1, 1), "patch_embed.proj.bias": torch.zeros(1)}
        >>> half = Normalization((0.5,), (0.5,))
        >>> convert_stem(file, own, half, half)[0]["patch_embed.proj.weight"].item()
        3.0
    """
    converted = dict(state)
    stem = _common_stem(state, own)
    if stem is None:
        return converted, None
    weight = state[stem.weight]
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


def needs_statistics(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Check whether :func:`convert_stem` depends on the normalizations.

    Args:
        state: tensors under the backbone's names.
        own: state dict of the backbone.

    Returns:
        True if a stem for several channels becomes one for a single gray channel.
    """
    stem = _common_stem(state, own)
    if stem is None:
        return False
    have, want = state[stem.weight].shape[1], own[stem.weight].shape[1]
    expands = EXPANSION_SCALE in own and EXPANSION_SCALE not in state and have == want
    return expands or (have > 1 and want == 1)


def _common_stem(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> _Stem | None:
    stem = next((s for s in STEMS if s.weight in own and s.weight in state), None)
    return stem if stem is not None and state[stem.weight].dim() == own[stem.weight].dim() else None


def _statistics(
    source: Normalization, target: Normalization, channels: int, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and deviation per channel of both normalizations, in float64, shaped to multiply a weight (O, C, k, k)."""
    shape = (1, channels) + (1,) * (weight.dim() - 2)
    values = []
    for numbers in (source.mean, source.std, target.mean, target.std):
        tensor = torch.tensor(numbers, dtype=torch.float64, device=weight.device)
        values.append(tensor.expand(channels).reshape(shape))
    return values[0], values[1], values[2], values[3]
