"""DiRA's published weights."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import NON_COMMERCIAL, Family
from monai_anat.networks.pretrained.normalizations import UNCHANGED

__all__ = ["DIRA"]

DIRA = Family(
    name="dira",
    origin="DiRA (arXiv 2204.10437), the encoder of its U-Net",
    # a U-Net without the query encoder's prefix may be anybody's, and "encoder." alone any network's
    marks=(
        r"(?:state_dict/)?(?:module\.)*encoder_[qk]\.(?:backbone\.)?encoder\.layer1\.",
        r"(?:state_dict/)?(?:module\.)*encoder_[qk]\.(?:backbone\.)?(?:decoder\.|segmentation_head\.)",
    ),
    branches={"student": ("state_dict", ""), "teacher": ("state_dict", "")},
    markers={
        "student": ("encoder_q.backbone.encoder.", "encoder_q.encoder.", "backbone.encoder.", "encoder."),
        "teacher": ("encoder_k.backbone.encoder.", "encoder_k.encoder."),
    },
    drop=(r"fc\..*",),
    normalization=UNCHANGED,
    terms=NON_COMMERCIAL,
)
