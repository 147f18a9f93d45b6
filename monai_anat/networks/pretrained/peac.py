"""PEAC's published weights."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import CONSTANTS, NON_COMMERCIAL, Family
from monai_anat.networks.pretrained.normalizations import RADIOGRAPH
from monai_anat.networks.pretrained.popar import HEADS, MODEL_MARKERS

__all__ = ["PEAC"]

PEAC = Family(
    name="peac",
    origin="PEAC (arXiv 2312.00335)",
    marks=(
        r"(?:(?:student|teacher|model)/)?(?:module\.)*mlp(?:_local)?\.0\.weight",
        r"(?:(?:student|teacher|model)/)?(?:module\.)*(?:swin_model|vit_model)\.",
    ),
    branches={"student": ("student", "model", ""), "teacher": ("teacher",)},
    markers={"student": MODEL_MARKERS, "teacher": MODEL_MARKERS},
    drop=(*HEADS, *CONSTANTS),
    normalization=RADIOGRAPH,
    norm_eps={"SwinBackbone": 1e-5},
    terms=NON_COMMERCIAL,
)
