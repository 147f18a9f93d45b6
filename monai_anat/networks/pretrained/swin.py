"""Swin Transformer weights: official, timm, Hugging Face."""

from __future__ import annotations

from monai_anat.networks.pretrained import renames
from monai_anat.networks.pretrained.family import CONSTANTS, OUTER, Family
from monai_anat.networks.pretrained.normalizations import IMAGENET

__all__ = ["HUGGINGFACE_SWIN", "SWIN"]

SWIN = Family(
    name="swin",
    origin="the official Swin Transformer or timm's, usually trained on ImageNet",
    marks=(),
    anchor="layers.0.blocks.0.attn.qkv.weight",
    branches={"student": OUTER},
    drop=(r"head\..*", *CONSTANTS),
    convert=renames.from_timm_swin,
    normalization=IMAGENET,
    assumed=True,
    norm_eps={"SwinBackbone": 1e-5},
)

HUGGINGFACE_SWIN = Family(
    name="huggingface_swin",
    origin="Hugging Face's Swin Transformer, usually trained on ImageNet",
    marks=(r"(?:swin\.)?encoder\.layers\.0\.blocks\.0\.layernorm_before\.weight",),
    branches={"student": ("",)},
    drop=(r"classifier\..*", r"decoder\..*", r"(?:swin\.)?embeddings\.mask_token", *CONSTANTS),
    convert=renames.from_huggingface_swin,
    normalization=IMAGENET,
    assumed=True,
    norm_eps={"SwinBackbone": 1e-5},
)
