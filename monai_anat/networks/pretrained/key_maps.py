"""Published families of weights as data: how to know their files, where the backbone lies, what is left away.

A further family is a further entry of :data:`FAMILIES`; the code that reads them stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.networks.backbones.stems import Normalization
from monai_anat.networks.pretrained import renames

__all__ = ["FAMILIES", "Family", "describe_architecture", "select_backbone", "tensors_in"]

RADIOGRAPH = Normalization((CHEST_MEAN,), (CHEST_STD,))
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalization((0.5,), (0.5,))
UNCHANGED = Normalization((0.0,), (1.0,))

#: what training scripts put before the names of a backbone
PREFIXES = ("module.", "backbone.", "swin_model.", "vit_model.", "encoder.", "encoder_q.")
#: what the owners of published weights allow, by the license files found in their repositories in November 2026
NON_COMMERCIAL = "academic and other non-commercial research only (license of the authors' repository, November 2026)"
NO_LICENCE = "none given: the authors' repository has no license (November 2026), so ask them"
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
        convert: tensors of the backbone under the file's names -> under the backbone's own.
        by_position: the names say nothing; the tensors follow one another as in the backbone.
        normalization: of the images that the weights were trained on; None where the record says it (our own files).
        norm_eps: epsilon of the norms by class of backbone, where the family has one.
        terms: what the owner of such files allows, for the record beside converted weights.
    """

    origin: str
    signature: str
    branches: Mapping[str, tuple[str, ...]]
    markers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    drop: tuple[str, ...] = ()
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    by_position: bool = False
    normalization: Normalization | None = None
    norm_eps: Mapping[str, float] = field(default_factory=dict)
    terms: str = "those of the file's owner"


_HEADS = (r"head\..*", r"bias", r"decoder\..*", r"mlp\..*", r"mlp_local\..*", r"fc\..*")
#: stored by Lamps and ACE, used by no encoder
_UNUSED = ("mask_token", "absolute_pos_embed")
_MODEL_MARKERS = ("backbone.", "swin_model.", "vit_model.")
_OUTER = ("model", "state_dict", "")
_NESTED = r"(?:(?:model|state_dict)/)?(?:(?:module|backbone)\.)*"

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
        norm_eps={"SwinBackbone": 1e-5},
        terms=NON_COMMERCIAL,
    ),
    "adam_v2": Family(
        origin="Adam-v2 (arXiv 2404.15672)",
        signature=(
            r"(?:student|teacher)/(?:module\.)*(?:backbone\.)?(?:downsample_layers|conv1)\."
            r"|(?:model/)?(?:module\.)*(?:student|teacher)\.backbone\.(?:downsample_layers|conv1)\."
        ),
        branches={"teacher": ("teacher", "model", ""), "student": ("student", "model")},
        markers={"teacher": ("backbone.", "teacher.backbone."), "student": ("backbone.", "student.backbone.")},
        drop=(r"head\..*", r"fc\..*"),
        normalization=IMAGENET,
        norm_eps={"ConvNeXtBackbone": 1e-6},
        terms=NON_COMMERCIAL,
    ),
    "lamps": Family(
        origin="Lamps, by the authors of PEAC",
        signature=(
            r"(?:(?:student|teacher)/)?(?:module\.)*(?:peac_global|peac_local|vitdecoder|popar_head|composer|decomposer)\."
        ),
        branches={"student": ("student", ""), "teacher": ("teacher",)},
        markers={"student": ("backbone.",), "teacher": ("backbone.",)},
        drop=(*_HEADS, *_UNUSED, *CONSTANTS),
        normalization=RADIOGRAPH,
        norm_eps={"SwinBackbone": 1e-6, "ViTBackbone": 1e-6},
        terms=NO_LICENCE,
    ),
    "ace": Family(
        origin="ACE, by the authors of PEAC",
        signature=r"(?:(?:student|teacher)/)?(?:module\.)*(?:DenseHead|upsample|downsample)\.",
        branches={"student": ("student", ""), "teacher": ("teacher",)},
        markers={"student": ("backbone.",), "teacher": ("backbone.",)},
        drop=(*_HEADS, *_UNUSED, *CONSTANTS),
        normalization=RADIOGRAPH,
        norm_eps={"SwinBackbone": 1e-6, "ViTBackbone": 1e-6},
        terms=NO_LICENCE,
    ),
    "mlvicx": Family(
        origin="MLVICX (arXiv 2403.11504)",
        signature=r"(?:(?:online|model)/)?(?:module\.)*(?:projetion|resize_project|cbt[1-5])\.",
        branches={"student": ("online", "model", "")},
        drop=(r"projetion\..*", r"resize_project\..*"),
        by_position=True,
        normalization=IMAGENET,
        terms=NO_LICENCE,
    ),
    "dira": Family(
        origin="DiRA (arXiv 2204.10437), the encoder of its U-Net",
        signature=(
            r"(?:state_dict/)?(?:module\.)*(?:encoder_[qk]\.)?(?:backbone\.)?"
            r"(?:encoder\.layer1\.|decoder\.blocks\.|segmentation_head\.)"
        ),
        branches={"student": ("state_dict", ""), "teacher": ("state_dict",)},
        markers={
            "student": ("encoder_q.backbone.encoder.", "encoder_q.encoder.", "backbone.encoder.", "encoder."),
            "teacher": ("encoder_k.backbone.encoder.", "encoder_k.encoder."),
        },
        drop=(r"fc\..*",),
        normalization=UNCHANGED,
        terms=NON_COMMERCIAL,
    ),
    "adam": Family(
        origin="Adam (arXiv 2309.15358), or MoCo",
        signature=r"(?:state_dict/)?(?:module\.)*(?:encoder_[qk]\.|fc\.0\.weight)",
        branches={"student": ("state_dict", ""), "teacher": ("state_dict",)},
        markers={"student": ("encoder_q.",), "teacher": ("encoder_k.",)},
        drop=(r"fc\..*",),
        normalization=IMAGENET,
        terms=NON_COMMERCIAL,
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
        norm_eps={"SwinBackbone": 1e-5},
        terms=NON_COMMERCIAL,
    ),
    "swin": Family(
        origin="the official Swin Transformer or timm's, trained on ImageNet",
        signature=_NESTED + r"layers\.0\.blocks\.0\.attn\.qkv\.weight",
        branches={"student": _OUTER},
        drop=(r"head\..*", *CONSTANTS),
        convert=renames.from_timm_swin,
        normalization=IMAGENET,
        norm_eps={"SwinBackbone": 1e-5},
    ),
    "huggingface_swin": Family(
        origin="Hugging Face's Swin Transformer, trained on ImageNet",
        signature=r"(?:swin\.)?encoder\.layers\.0\.blocks\.0\.layernorm_before\.weight",
        branches={"student": ("",)},
        drop=(r"classifier\..*", r"decoder\..*", r"(?:swin\.)?embeddings\.mask_token", *CONSTANTS),
        convert=renames.from_huggingface_swin,
        normalization=IMAGENET,
        norm_eps={"SwinBackbone": 1e-5},
    ),
    "timm_vit": Family(
        origin="timm's Vision Transformer, trained on images with mean and deviation 0.5",
        signature=_NESTED + r"blocks\.0\.attn\.qkv\.weight",
        branches={"student": _OUTER},
        drop=(r"head\..*", r"fc_norm\..*"),
        normalization=HALF,
        norm_eps={"ViTBackbone": 1e-6},
    ),
    "huggingface_vit": Family(
        origin="Hugging Face's Vision Transformer, trained on images with mean and deviation 0.5",
        signature=r"(?:vit\.)?(?:encoder\.layer|layers)\.0\.layernorm_before\.weight",
        branches={"student": ("",)},
        drop=(
            r"classifier\..*",
            r"decoder\..*",
            r"(?:vit\.)?pooler\..*",
            r"(?:vit\.)?embeddings\.mask_token",
        ),
        convert=renames.from_huggingface_vit,
        normalization=HALF,
        norm_eps={"ViTBackbone": 1e-12},
    ),
    "convnext": Family(
        origin="the official ConvNeXt, trained on ImageNet",
        signature=_NESTED + r"downsample_layers\.0\.0\.weight",
        branches={"student": _OUTER},
        drop=(r"head\..*",),
        normalization=IMAGENET,
        norm_eps={"ConvNeXtBackbone": 1e-6},
    ),
    "timm_convnext": Family(
        origin="timm's ConvNeXt, trained on ImageNet",
        signature=_NESTED + r"stages\.0\.blocks\.0\.conv_dw\.weight",
        branches={"student": _OUTER},
        drop=(r"head\.fc\..*",),
        convert=renames.from_timm_convnext,
        normalization=IMAGENET,
        norm_eps={"ConvNeXtBackbone": 1e-6},
    ),
    "huggingface_convnext": Family(
        origin="Hugging Face's ConvNeXt, trained on ImageNet",
        signature=r"(?:convnext\.)?encoder\.stages\.0\.layers\.0\.dwconv\.weight",
        branches={"student": ("",)},
        drop=(r"classifier\..*",),
        convert=renames.from_huggingface_convnext,
        normalization=IMAGENET,
        norm_eps={"ConvNeXtBackbone": 1e-6},
    ),
    "torchvision_resnet": Family(
        origin="torchvision's ResNet, trained on ImageNet",
        signature=_NESTED + r"layer1\.0\.conv1\.weight",
        branches={"student": _OUTER},
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
    default = next(iter(family.branches))
    if not marked and branch != default and outer in family.branches[default]:
        raise KeyError(branch)  # what lies there is the other branch
    state: dict[str, Tensor] = {}
    dropped = []
    for key in marked or tensors:
        name = _unwrapped(key)
        if marked:
            name = name.removeprefix(next(marker for marker in markers if name.startswith(marker)))
        name = _stripped(name)
        if any(re.fullmatch(pattern, name) for pattern in family.drop):
            dropped.append(key)
        else:
            state[name] = tensors[key]
    kept = set(marked)
    dropped += [key for key in tensors if marked and key not in kept]
    return family.convert(state), dropped


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
    if "stages.0.0.dwconv.weight" in state and "downsample_layers.0.0.weight" in state:
        stages = _count(state, r"stages\.(\d+)\.")
        depths = tuple(_count(state, rf"stages\.{s}\.(\d+)\.") for s in range(stages))
        widths = tuple(state[f"stages.{s}.0.dwconv.weight"].shape[0] for s in range(stages))
        scale = "" if "stages.0.0.gamma" in state else ", layer_scale=0"
        spatial_dims = state["downsample_layers.0.0.weight"].dim() - 2
        return f"ConvNeXtBackbone(spatial_dims={spatial_dims}, depths={depths}, dims={widths}{scale})"
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
