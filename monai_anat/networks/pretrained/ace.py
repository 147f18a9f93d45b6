"""ACE's published weights."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import CONSTANTS, NO_LICENSE, Family
from monai_anat.networks.pretrained.lamps import UNUSED
from monai_anat.networks.pretrained.normalizations import RADIOGRAPH
from monai_anat.networks.pretrained.popar import HEADS

__all__ = ["ACE"]

ACE = Family(
    name="ace",
    origin="ACE (arXiv:2501.10131)",
    marks=(r"(?:(?:student|teacher)/)?(?:module\.)*DenseHead\.",),
    branches={"student": ("student", ""), "teacher": ("teacher",)},
    markers={"student": ("backbone.",), "teacher": ("backbone.",)},
    drop=(*HEADS, *UNUSED, *CONSTANTS),
    normalization=RADIOGRAPH,
    norm_eps={"SwinBackbone": 1e-6, "ViTBackbone": 1e-6},
    terms=NO_LICENSE,
)
