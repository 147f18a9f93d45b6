"""Conversion of parameter names of timm and Hugging Face to the official names."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

__all__ = [
    "by_shape",
    "from_huggingface_convnext",
    "from_huggingface_swin",
    "from_huggingface_vit",
    "from_timm_convnext",
    "from_timm_swin",
    "in_order",
]

Rules = Sequence[tuple[str, str]]

#: transformer blocks of Hugging Face: names in published files, and names of version 5 in memory
_BLOCK: Rules = (
    (r"\.layernorm_before\.", ".norm1."),
    (r"\.layernorm_after\.", ".norm2."),
    (r"\.attention\.(?:attention|self|relative_position_bias)\.", ".attn."),
    (r"\.attention\.q_proj\.", ".attn.query."),
    (r"\.attention\.k_proj\.", ".attn.key."),
    (r"\.attention\.v_proj\.", ".attn.value."),
    (r"\.attention\.(?:output\.dense|o_proj)\.", ".attn.proj."),
    (r"\.intermediate\.dense\.", ".mlp.fc1."),
    (r"\.output\.dense\.", ".mlp.fc2."),
)
#: the prefix ``encoder.`` may have been removed already
_VIT: Rules = (
    (r"^(?:vit\.)?(?:encoder\.)?layers?\.", "blocks."),
    (r"^(?:vit\.)?layernorm\.", "norm."),
    (r"^(?:vit\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(?:vit\.)?embeddings\.position_embeddings$", "pos_embed"),
    (r"^(?:vit\.)?embeddings\.", ""),
    *_BLOCK,
)
_SWIN: Rules = (
    (r"^(?:swin\.)?(?:encoder\.)?layers\.", "layers."),
    (r"^(?:swin\.)?layernorm\.", "norm."),
    (r"^(?:swin\.)?embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^(?:swin\.)?embeddings\.", "patch_embed."),
    *_BLOCK,
)
_CONVNEXT: Rules = (
    (r"^(?:convnext\.)?(?:encoder\.)?stages\.(\d+)\.downsampling_layer\.", r"downsample_layers.\1."),
    (r"^(?:convnext\.)?(?:encoder\.)?stages\.(\d+)\.layers\.", r"stages.\1."),
    (r"^(?:convnext\.)?embeddings\.patch_embeddings\.", "downsample_layers.0.0."),
    (r"^(?:convnext\.)?embeddings\.layernorm\.", "downsample_layers.0.1."),
    (r"^(?:convnext\.)?layernorm\.", "norm."),
    (r"\.layernorm\.", ".norm."),
    (r"\.layer_scale_parameter$", ".gamma"),
)
_TIMM_CONVNEXT: Rules = (
    (r"^stem\.", "downsample_layers.0."),
    (r"^stages\.(\d+)\.downsample\.", r"downsample_layers.\1."),
    (r"^stages\.(\d+)\.blocks\.", r"stages.\1."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"\.mlp\.fc([12])\.", r".pwconv\1."),
    (r"^head\.norm\.", "norm."),
)


def from_huggingface_vit(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the names of a ViT of Hugging Face, and join query, key and value to one layer."""
    return _joined(_renamed(state, _VIT))


def from_huggingface_swin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the names of a Swin of Hugging Face, and join query, key and value to one layer."""
    return _joined(_renamed(state, _SWIN))


def from_huggingface_convnext(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the names of a ConvNeXt of Hugging Face."""
    return _renamed(state, _CONVNEXT)


def from_timm_convnext(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the names of a ConvNeXt of timm."""
    return _renamed(state, _TIMM_CONVNEXT)


def from_timm_swin(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the names of a Swin, official or of timm. Since 0.9, timm assigns patch merging to the next stage.

    Example:
        >>> state = {"layers.0.blocks.0.norm1.bias": torch.ones(1), "layers.1.downsample.norm.bias": torch.ones(1)}
        >>> list(from_timm_swin(state))
        ['layers.0.blocks.0.norm1.bias', 'layers.0.downsample.norm.bias']
    """
    pattern = re.compile(r"layers\.(\d+)\.downsample\.")
    stages = {int(match.group(1)) for name in state if (match := pattern.match(name))}
    if not stages or 0 in stages:
        return dict(state)
    return {
        pattern.sub(lambda match: f"layers.{int(match.group(1)) - 1}.downsample.", name): tensor
        for name, tensor in state.items()
    }


def in_order(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name tensors by their position, for files with uninformative names.

    The last part of the name (weight, running_mean, ...) and all sizes except the stem's channels must agree as well.

    Args:
        state: tensors of the file, in its order.
        own: tensors of the backbone, in the order of computation.

    Returns:
        The tensors of ``state`` under the names of ``own``.

    Raises:
        ValueError: if they do not agree. The message names the first position that differs.
    """
    if len(state) != len(own):
        raise ValueError(f"the file's encoder has {len(state)} tensors and the backbone {len(own)}")
    placed: dict[str, Tensor] = {}
    for (theirs, tensor), (ours, target) in zip(state.items(), own.items(), strict=True):
        shapes = [list(t.shape) for t in (tensor, target)]
        if not placed:  # the stem may have other channels
            shapes = [shape[:1] + shape[2:] for shape in shapes]
        if theirs.rpartition(".")[2] != ours.rpartition(".")[2] or shapes[0] != shapes[1]:
            raise ValueError(
                f"tensor {len(placed)} is {theirs} {tuple(tensor.shape)} in the file and {ours} {tuple(target.shape)} "
                "in the backbone"
            )
        placed[ours] = tensor
    return placed


def by_shape(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Name the tensors of numbered modules by the number of the module and their shape, ignoring their names.

    Tensors of one module with the same shape are assigned in the order of their names.

    Args:
        state: tensors of the file, ``cbt1.*``, ``cbt2.*``, ...
        own: tensors of the backbone, ``gates.0.*``, ``gates.1.*``, ...

    Returns:
        The tensors of ``state`` under the names of ``own``.

    Raises:
        ValueError: if they do not agree. The message names the first module that differs.

    Example:
        >>> state = {"cbt1.conv": torch.zeros(2), "cbt1.mlp": torch.ones(1)}
        >>> by_shape(state, {"gates.0.first": torch.zeros(1), "gates.0.second": torch.zeros(2)})["gates.0.first"]
        tensor([1.])
    """
    theirs, ours = _by_module(state), _by_module(own)
    if len(theirs) != len(ours):
        raise ValueError(f"the file has {len(theirs)} gates and the backbone {len(ours)}")
    placed: dict[str, Tensor] = {}
    for number, (tensors, targets) in enumerate(zip(theirs, ours, strict=True)):
        shapes = [sorted(tuple(tensor.shape) for tensor in group.values()) for group in (tensors, targets)]
        if shapes[0] != shapes[1]:
            raise ValueError(f"gate {number} has tensors of {shapes[0]} in the file and {shapes[1]} in the backbone")
        waiting = [tensors[name] for name in sorted(tensors)]
        for name, target in targets.items():
            placed[name] = waiting.pop([tensor.shape for tensor in waiting].index(target.shape))
    return placed


def _by_module(state: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    """Group tensors by the number of their module, in the order of the numbers."""
    modules: dict[int, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        number = re.search(r"\d+", name)
        modules.setdefault(int(number.group()) if number else 0, {})[name] = tensor
    return [modules[number] for number in sorted(modules)]


def _renamed(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    named = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        named[name] = tensor
    return named


def _joined(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Concatenate query, key and value of a block, as the official networks store them."""
    joined = {}
    for name, tensor in state.items():
        match = re.fullmatch(r"(.*\.attn\.)(query|key|value)\.(\w+)", name)
        if match is None:
            joined[name] = tensor
        elif match.group(2) == "query":
            start, kind = match.group(1), match.group(3)
            parts = [state.get(f"{start}{part}.{kind}") for part in ("query", "key", "value")]
            joined[f"{start}qkv.{kind}"] = torch.cat([part for part in parts if part is not None])
    return joined
