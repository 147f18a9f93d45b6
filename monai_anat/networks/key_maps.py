"""Published families of weights as data: how to know their files, where the backbone lies, what is left away.

A further family is a further entry of :data:`FAMILIES`; the code that reads them stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from monai_anat.networks.stems import Normalization

__all__ = ["FAMILIES", "Family", "describe_architecture", "select_backbone", "tensors_in"]

RADIOGRAPH = Normalization((0.5056,), (0.252,))
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))

#: what training scripts put before the names of a backbone
PREFIXES = ("module.", "backbone.", "swin_model.", "vit_model.", "encoder.", "encoder_q.")
#: buffers that every network computes for itself
CONSTANTS = (r"(.*\.)?attn_mask", r"(.*\.)?relative_position_index")


@dataclass(frozen=True)
class Family:
    """How the files of one origin are laid out.

    Attributes:
        origin: who wrote such files, for messages.
        signature: a file belongs here if this pattern matches one of its keys; a nested key reads ``outer/inner``.
        branches: the networks that a file may hold, the default first: name -> where its tensors may lie (the outer
            keys, ``""`` for a file without nesting).
        markers: prefixes of the backbone's keys; when one occurs, keys without it belong to something else.
        drop: patterns of full keys, after prefixes are gone, that are no part of the backbone.
        rename: name in the file -> name in the backbone.
        normalization: of the images that the weights were trained on; None where the record says it (our own files).
        norm_eps: epsilon of the norms, where the family has one.
    """

    origin: str
    signature: str
    branches: Mapping[str, tuple[str, ...]]
    markers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    rename: Callable[[str], str] = str
    normalization: Normalization | None = None
    norm_eps: float | None = None


_HEADS = (r"head\..*", r"bias", r"decoder\..*", r"mlp\..*", r"mlp_local\..*", r"fc\..*")
_MODEL_MARKERS = ("backbone.", "swin_model.", "vit_model.")

#: in the order in which ``family="auto"`` tries them
FAMILIES: dict[str, Family] = {
    "monai_anat": Family(
        origin="a training checkpoint or an encoder of monai_anat",
        signature=r"method/(backbone|teacher\.backbone)\.",
        branches={"student": ("method", ""), "teacher": ("method",)},
        markers={"student": ("backbone.",), "teacher": ("teacher.backbone.",)},
    ),
    "peac": Family(
        origin="PEAC (arXiv 2312.00335)",
        signature=r"(?:(?:student|teacher|model)/)?(?:module\.)*mlp(?:_local)?\.0\.weight",
        branches={"student": ("student", "model", ""), "teacher": ("teacher",)},
        markers={"student": _MODEL_MARKERS, "teacher": _MODEL_MARKERS},
        drop=(*_HEADS, *CONSTANTS),
        normalization=RADIOGRAPH,
        norm_eps=1e-5,
    ),
    "popar": Family(
        origin="POPAR (DART 2022, Medical Image Analysis 2025)",
        # official files have no prefix
        signature=(
            r"(?:model/)?(?:module\.)*(?:(?:(?:backbone|swin_model|vit_model)\.)+patch_embed\.|decoder\.0\.weight)"
            r"|(?:module\.)+patch_embed\."
        ),
        branches={"student": ("model", "")},
        markers={"student": _MODEL_MARKERS},
        drop=(*_HEADS, *CONSTANTS),
        normalization=RADIOGRAPH,
        norm_eps=1e-5,
    ),
    "swin": Family(
        origin="the official Swin Transformer, trained on ImageNet",
        signature=r"(?:(?:model|state_dict)/)?(?:module\.)*layers\.0\.blocks\.0\.attn\.qkv\.weight",
        branches={"student": ("model", "state_dict", "")},
        drop=(r"head\..*", *CONSTANTS),
        normalization=IMAGENET,
        norm_eps=1e-5,
    ),
    "torchvision_resnet": Family(
        origin="torchvision's ResNet, trained on ImageNet",
        signature=r"(?:(?:model|state_dict)/)?(?:module\.)*layer1\.0\.conv1\.weight",
        branches={"student": ("model", "state_dict", "")},
        drop=(r"fc\..*",),
        normalization=IMAGENET,
    ),
}


def tensors_in(content: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """The dictionaries of tensors that a file holds: outer key -> tensors, with ``""`` for those at the top."""
    groups = {"": {name: value for name, value in content.items() if isinstance(value, Tensor)}}
    for outer, value in content.items():
        if isinstance(value, Mapping):
            groups[outer] = {name: inner for name, inner in value.items() if isinstance(inner, Tensor)}
    return {outer: tensors for outer, tensors in groups.items() if tensors}


def select_backbone(
    family: Family, branch: str, groups: Mapping[str, Mapping[str, Tensor]]
) -> tuple[dict[str, Tensor], list[str]]:
    """Keep the backbone of one branch, under the backbone's own names.

    Args:
        family: layout of the file.
        branch: which of its networks.
        groups: what :func:`tensors_in` found.

    Returns:
        The tensors by name, and the keys of that branch that were left away.

    Raises:
        KeyError: when the file does not hold the branch.
    """
    outer = next((name for name in family.branches[branch] if name in groups), None)
    if outer is None:
        raise KeyError(branch)
    tensors = groups[outer]
    markers = family.markers.get(branch, ())
    marked = [key for key in tensors if _unwrapped(key).startswith(markers)] if markers else []
    state: dict[str, Tensor] = {}
    dropped = []
    for key in marked or tensors:
        name = _unwrapped(key)
        if marked:
            name = name.removeprefix(next(marker for marker in markers if name.startswith(marker)))
        name = family.rename(_stripped(name))
        if any(re.fullmatch(pattern, name) for pattern in family.drop):
            dropped.append(key)
        else:
            state[name] = tensors[key]
    kept = set(marked)
    dropped += [key for key in tensors if marked and key not in kept]
    return state, dropped


def describe_architecture(state: Mapping[str, Tensor]) -> str | None:
    """The call that builds a network for these tensors, as far as their shapes tell; None for an unknown layout."""
    if "layers.0.blocks.0.attn.relative_position_bias_table" in state:
        stages = _count(state, r"layers\.(\d+)\.")
        depths = tuple(_count(state, rf"layers\.{s}\.blocks\.(\d+)\.") for s in range(stages))
        tables = [state[f"layers.{s}.blocks.0.attn.relative_position_bias_table"] for s in range(stages)]
        stem = state["patch_embed.proj.weight"]
        dims = stem.dim() - 2
        window = (round(tables[0].shape[0] ** (1 / dims)) + 1) // 2
        return (
            f"SwinBackbone(spatial_dims={dims}, embed_dim={stem.shape[0]}, depths={depths}, "
            f"num_heads={tuple(t.shape[1] for t in tables)}, window_size={window}, patch_size={stem.shape[2]})"
        )
    if "blocks.0.attn.qkv.weight" in state and "patch_embed.proj.weight" in state:
        stem = state["patch_embed.proj.weight"]
        depth = _count(state, r"blocks\.(\d+)\.")
        return (
            f"ViTBackbone(spatial_dims={stem.dim() - 2}, patch_size={stem.shape[2]}, embed_dim={stem.shape[0]}, "
            f"depth={depth}, class_token={'cls_token' in state}, image_size=..., num_heads=...)"
        )
    if "layer1.0.conv1.weight" in state:
        blocks = tuple(_count(state, rf"layer{s}\.(\d+)\.") for s in range(1, 5))
        bottleneck = "layer1.0.conv3.weight" in state
        depth = 2 + sum(blocks) * (3 if bottleneck else 2)
        return f"ResNetBackbone(spatial_dims={state['conv1.weight'].dim() - 2}, depth={depth})"
    return None


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})


def _unwrapped(key: str) -> str:
    while key.startswith("module."):
        key = key.removeprefix("module.")
    return key


def _stripped(key: str) -> str:
    while key.startswith(PREFIXES):
        key = key.removeprefix(next(prefix for prefix in PREFIXES if key.startswith(prefix)))
    return key
