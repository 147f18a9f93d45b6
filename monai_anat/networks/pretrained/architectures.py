"""Description of the network that a state dict belongs to."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["describe_architecture"]


def describe_architecture(state: Mapping[str, Tensor]) -> str | None:
    """Describe the network for a state dict as a constructor call, as far as the shapes tell.

    Args:
        state: tensors under the names of a backbone of this package.

    Returns:
        The call, or None for an unknown layout.

    >>> from monai_anat.networks import ResNetBackbone
    >>> describe_architecture(ResNetBackbone(depth=18).state_dict())
    'ResNetBackbone(spatial_dims=2, depth=18)'
    """
    if "layers.0.blocks.0.attn.relative_position_bias_table" in state and "patch_embed.proj.weight" in state:
        return _describe_swin(state)
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
    if "layer1.0.conv1.weight" in state and "conv1.weight" in state:
        blocks = tuple(_count(state, rf"layer{s}\.(\d+)\.") for s in range(1, 5))
        bottleneck = "layer1.0.conv3.weight" in state
        depth = 2 + sum(blocks) * (3 if bottleneck else 2)
        return f"ResNetBackbone(spatial_dims={state['conv1.weight'].dim() - 2}, depth={depth})"
    return None


def _describe_swin(state: Mapping[str, Tensor]) -> str | None:
    stages = _count(state, r"layers\.(\d+)\.")
    depths = tuple(_count(state, rf"layers\.{s}\.blocks\.(\d+)\.") for s in range(stages))
    names = [f"layers.{s}.blocks.0.attn.relative_position_bias_table" for s in range(stages)]
    if any(name not in state for name in names):
        return None
    tables, stem = [state[name] for name in names], state["patch_embed.proj.weight"]
    dims = stem.dim() - 2
    window = (round(tables[0].shape[0] ** (1 / dims)) + 1) // 2
    return (
        f"SwinBackbone(spatial_dims={dims}, embed_dim={stem.shape[0]}, depths={depths}, "
        f"num_heads={tuple(t.shape[1] for t in tables)}, window_size={window}, patch_size={stem.shape[2]})"
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    return len({match.group(1) for key in state if (match := re.match(pattern, key))})
