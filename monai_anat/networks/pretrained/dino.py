"""Weights of DINO, iBOT and other student-teacher methods."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import CONSTANTS, Family
from monai_anat.networks.pretrained.normalizations import IMAGENET

__all__ = ["DINO", "IBOT", "STUDENT_TEACHER"]

_DROP = (r"head\..*", r"fc\..*", r"masked_embed", *CONSTANTS)

IBOT = Family(
    name="ibot",
    origin="iBOT (arXiv:2111.07832), trained on ImageNet",
    marks=(r"(?:\w+/)?(?:module\.)*(?:backbone\.)?masked_embed$",),
    branches={"teacher": ("teacher", "state_dict", ""), "student": ("student",)},
    markers={"teacher": ("backbone.",), "student": ("backbone.",)},
    drop=_DROP,
    normalization=IMAGENET,
    norm_eps={"ViTBackbone": 1e-6, "SwinBackbone": 1e-5},
    terms="Apache-2.0",
)

DINO = Family(
    name="dino",
    origin="DINO (arXiv:2104.14294), trained on ImageNet",
    marks=(r"dino_loss/center$", r"teacher/(?:module\.)*(?:backbone\.)?(?:blocks|layers|layer1|stages)\."),
    branches={"teacher": ("teacher",), "student": ("student",)},
    markers={"teacher": ("backbone.",), "student": ("backbone.",)},
    drop=_DROP,
    normalization=IMAGENET,
    assumed=True,
    norm_eps={"ViTBackbone": 1e-6},
)

STUDENT_TEACHER = Family(
    name="student_teacher",
    origin="a student-teacher method with the layout of DINO",
    marks=(r"(?:student|teacher)/(?:module\.)*(?:backbone\.)?(?:blocks|layers|layer1|stages)\.",),
    branches={"teacher": ("teacher",), "student": ("student",)},
    markers={"teacher": ("backbone.",), "student": ("backbone.",)},
    drop=_DROP,
)
