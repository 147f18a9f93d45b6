"""MLVICX' published weights."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import NO_LICENSE, Family
from monai_anat.networks.pretrained.normalizations import IMAGENET

__all__ = ["MLVICX"]

MLVICX = Family(
    name="mlvicx",
    origin="MLVICX (arXiv 2403.11504)",
    marks=(r"(?:(?:online|model)/)?(?:module\.)*(?:projetion|resize_project|cbt[1-5])\.",),  # "projetion" as published
    branches={"student": ("online", "model", "")},
    drop=(r"projetion\..*", r"resize_project\..*"),
    by_position=True,
    normalization=IMAGENET,
    terms=NO_LICENSE,
)
