"""ConvNeXt weights: official, timm, Hugging Face."""

from __future__ import annotations

from monai_anat.networks.pretrained import renames
from monai_anat.networks.pretrained.family import OUTER, Family
from monai_anat.networks.pretrained.normalizations import IMAGENET

__all__ = ["CONVNEXT", "HUGGINGFACE_CONVNEXT", "TIMM_CONVNEXT"]

CONVNEXT = Family(
    name="convnext",
    origin="the official ConvNeXt, usually trained on ImageNet",
    marks=(),
    anchor="downsample_layers.0.0.weight",
    branches={"student": OUTER},
    drop=(r"head\..*",),
    normalization=IMAGENET,
    assumed=True,
    norm_eps={"ConvNeXtBackbone": 1e-6},
)

TIMM_CONVNEXT = Family(
    name="timm_convnext",
    origin="timm's ConvNeXt, usually trained on ImageNet",
    marks=(),
    anchor="stages.0.blocks.0.conv_dw.weight",
    branches={"student": OUTER},
    drop=(r"head\.fc\..*",),
    convert=renames.from_timm_convnext,
    normalization=IMAGENET,
    assumed=True,
    norm_eps={"ConvNeXtBackbone": 1e-6},
)

HUGGINGFACE_CONVNEXT = Family(
    name="huggingface_convnext",
    origin="Hugging Face's ConvNeXt, usually trained on ImageNet",
    marks=(r"(?:convnext\.)?encoder\.stages\.0\.layers\.0\.dwconv\.weight",),
    branches={"student": ("",)},
    drop=(r"classifier\..*",),
    convert=renames.from_huggingface_convnext,
    normalization=IMAGENET,
    assumed=True,
    norm_eps={"ConvNeXtBackbone": 1e-6},
)
