"""MoCo's published weights: versions 1, 2 and 3."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import Family
from monai_anat.networks.pretrained.normalizations import IMAGENET

__all__ = ["MOCO", "MOCO_V3"]

MOCO = Family(
    name="moco",
    origin="MoCo (versions 1 and 2), or a method with its layout",
    marks=(r"(?:state_dict/)?(?:module\.)*encoder_[qk]\.",),
    branches={"student": ("state_dict", ""), "teacher": ("state_dict", "")},
    markers={"student": ("encoder_q.",), "teacher": ("encoder_k.",)},
    drop=(r"fc\..*", r"head\..*"),
    normalization=IMAGENET,
    assumed=True,
)

MOCO_V3 = Family(
    name="moco_v3",
    origin="MoCo version 3, or a method with its layout",
    marks=(r"(?:state_dict/)?(?:module\.)*base_encoder\.",),
    branches={"student": ("state_dict", ""), "teacher": ("state_dict", "")},
    markers={"student": ("base_encoder.",), "teacher": ("momentum_encoder.",)},
    drop=(r"fc\..*", r"head\..*"),
    normalization=IMAGENET,
    assumed=True,
    norm_eps={"ViTBackbone": 1e-6},
)
