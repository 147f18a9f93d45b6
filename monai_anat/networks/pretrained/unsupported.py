"""Weight files that are recognized and cannot be loaded."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

__all__ = ["UNSUPPORTED", "check_supported"]

_SWIN_V2 = "whose attention SwinBackbone does not compute; use the Swin V1 file of the same method"
_VIT = "whose layers ViTBackbone does not have; wrap the network of its own library by as_backbone"
_WRAP = "which has no backbone of its own here; build the network in its own library and wrap it by as_backbone"

#: (patterns that must each occur in a key, description, reason and way out), the most specific first
UNSUPPORTED: tuple[tuple[tuple[str, ...], str, str], ...] = (
    ((r"\.(?:logit_scale|cpb_mlp\..*|rpb_mlp\..*)$", r"layers\.\d+\.blocks\."), "a Swin Transformer V2", _SWIN_V2),
    ((r"(?:rope_embed\.periods|storage_tokens)$",), "a DINOv3 network", _VIT),
    ((r"register_tokens$", r"layer\.0\.attention\.k_proj\.weight$"), "a DINOv3 network of Hugging Face", _VIT),
    ((r"reg_token$", r"blocks\.0\.gamma_1$"), "a DINOv3 network of timm", _VIT),
    ((r"blocks\.(?:\d+\.)?\d+\.ls1\.gamma$",), "a ViT with LayerScale, such as DINOv2 or DeiT III", _VIT),
    ((r"\.layer_scale1\.lambda1$",), "a DINOv2 network of Hugging Face", _VIT),
    (
        (r"(?:^|[./])blocks\.0\.(?:mlp\.(?:w1|fc1_g)\.weight|attn\.q_bias|gamma_1)$",),
        "an EVA-02, EVA-X or BEiT network",
        _VIT,
    ),
    ((r"dist_token$",), "a distilled DeiT", _VIT),
    ((r"(?:reg_token|register_tokens)$",), "a ViT with register tokens", _VIT),
    ((r"visual\.trunk\.",), "an image-text model, such as BiomedCLIP", _WRAP),
    ((r"features\.denseblock1\.",), "a DenseNet", "which MONAI has; wrap MONAI's DenseNet by as_backbone"),
    ((r"stages\.0\.layers\.0\.depthwise_conv\.",), "a DINOv3 ConvNeXt of Hugging Face", _WRAP),
    ((r"norms\.3\.weight$", r"downsample_layers\.0\.0\.weight$"), "a DINOv3 ConvNeXt", _WRAP),
    ((r"backbone\.0\.weight$", r"backbone\.4\.0\.conv1\.weight$"), "a ResNet of RadImageNet", _WRAP),
)


def check_supported(names: Iterable[str], file: Path) -> None:
    """Check that a file does not hold a network that is known and not supported.

    Args:
        names: keys of the file.
        file: the file, for the message.

    Raises:
        ValueError: if it does. The message names the network, the key that shows it, and the way out.
    """
    names = list(names)
    for patterns, network, reason in UNSUPPORTED:
        found = [next((name for name in names if re.search(pattern, name)), None) for pattern in patterns]
        if None not in found:
            raise ValueError(f"{file} holds {network} (it has {found[0]}), {reason}")
    known = set(names)
    for name in names:
        # a decoder may have such a name as well, so the layers of a ResNet have to follow under the same prefix
        if name.endswith("conv1.0.weight") and f"{name.removesuffix('conv1.0.weight')}layer1.0.conv1.weight" in known:
            raise ValueError(
                f"{file} holds a ResNet with a deep stem, such as timm's resnet50d (it has {name}), and ResNetBackbone "
                "has one 7x7 convolution there; use the weights of a plain resnet50"
            )
