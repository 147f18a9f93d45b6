"""Adam-v2's published weights."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import NON_COMMERCIAL, Family
from monai_anat.networks.pretrained.normalizations import IMAGENET

__all__ = ["ADAM_V2"]

_BACKBONE = r"(?:downsample_layers|conv1)\."

ADAM_V2 = Family(
    name="adam_v2",
    origin="Adam-v2 (arXiv 2404.15672)",
    # DINO writes student and teacher in the same way, so a loss or a head of Adam-v2 has to be there
    marks=(
        r"localizability_loss/|(?:\w+/)?(?:module\.)*(?:student\.|teacher\.)?(?:composability|decomposability)_head\.",
        rf"(?:student|teacher)/(?:module\.)*(?:backbone\.)?{_BACKBONE}"
        rf"|(?:model/)?(?:module\.)*(?:student|teacher)\.backbone\.{_BACKBONE}",
    ),
    branches={"teacher": ("teacher", "model", ""), "student": ("student", "model", "")},
    markers={"teacher": ("backbone.", "teacher.backbone."), "student": ("backbone.", "student.backbone.")},
    drop=(r"head\..*", r"fc\..*"),
    normalization=IMAGENET,
    norm_eps={"ConvNeXtBackbone": 1e-6},
    terms=NON_COMMERCIAL,
)
