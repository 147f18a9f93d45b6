"""Training checkpoints and encoders of this package."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import Family

__all__ = ["MONAI_ANAT"]

MONAI_ANAT = Family(
    name="monai_anat",
    origin="a training checkpoint or an encoder of monai_anat",
    marks=(r"method/(backbone|teacher\.backbone)\.",),
    branches={"student": ("method", ""), "teacher": ("method",)},
    markers={"student": ("backbone.",), "teacher": ("teacher.backbone.",)},
)
