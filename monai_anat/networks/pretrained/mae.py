"""Weights of MAE."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import Family
from monai_anat.networks.pretrained.normalizations import IMAGENET

__all__ = ["MAE"]

MAE = Family(
    name="mae",
    origin="MAE (arXiv:2111.06377), trained on ImageNet",
    marks=(r"(?:model/)?(?:module\.)*decoder_embed\.weight$", r"(?:model/)?(?:module\.)*blocks\.0\.attn\.qkv\.weight$"),
    branches={"student": ("model", "")},
    drop=(r"decoder_.*", r"mask_token", r"head\..*"),
    normalization=IMAGENET,
    norm_eps={"ViTBackbone": 1e-6},
    terms="CC BY-NC 4.0: attribution, changes stated, non-commercial use only",
)
