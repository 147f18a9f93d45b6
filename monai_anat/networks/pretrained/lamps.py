"""Lamps' published weights, and what ACE shares with them."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import CONSTANTS, NO_LICENSE, Family
from monai_anat.networks.pretrained.normalizations import RADIOGRAPH
from monai_anat.networks.pretrained.popar import HEADS

__all__ = ["LAMPS", "UNUSED"]

#: parameters that files of Lamps and ACE hold and no encoder uses
UNUSED = ("mask_token", "absolute_pos_embed")

LAMPS = Family(
    name="lamps",
    origin="Lamps (arXiv:2512.22872)",
    marks=(
        r"(?:(?:student|teacher)/)?(?:module\.)*(?:peac_global|peac_local|vitdecoder|popar_head|composer|decomposer)\.",
    ),
    branches={"student": ("student", ""), "teacher": ("teacher",)},
    markers={"student": ("backbone.",), "teacher": ("backbone.",)},
    drop=(*HEADS, *UNUSED, *CONSTANTS),
    normalization=RADIOGRAPH,
    norm_eps={"SwinBackbone": 1e-6, "ViTBackbone": 1e-6},
    terms=NO_LICENSE,
)
