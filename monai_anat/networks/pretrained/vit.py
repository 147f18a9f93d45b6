"""Vision Transformer weights: timm, Hugging Face."""

from __future__ import annotations

from monai_anat.networks.pretrained import renames
from monai_anat.networks.pretrained.family import OUTER, Family

__all__ = ["HUGGINGFACE_VIT", "TIMM_VIT"]

TIMM_VIT = Family(
    name="timm_vit",
    # DeiT, DINO and MAE have the same names and ImageNet's statistics, so a file alone does not tell them
    origin="a Vision Transformer with timm's names",
    marks=(),
    anchor="blocks.0.attn.qkv.weight",
    branches={"student": OUTER},
    drop=(r"head\..*", r"fc_norm\..*"),
    norm_eps={"ViTBackbone": 1e-6},
)

HUGGINGFACE_VIT = Family(
    name="huggingface_vit",
    origin="Hugging Face's Vision Transformer",
    marks=(r"(?:vit\.)?(?:encoder\.layer|layers)\.0\.layernorm_before\.weight",),
    branches={"student": ("",)},
    drop=(r"classifier\..*", r"decoder\..*", r"(?:vit\.)?pooler\..*", r"(?:vit\.)?embeddings\.mask_token"),
    convert=renames.from_huggingface_vit,
    norm_eps={"ViTBackbone": 1e-12},
)
