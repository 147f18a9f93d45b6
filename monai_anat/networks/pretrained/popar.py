"""POPAR's published weights, and the names that its relatives share."""

from __future__ import annotations

from monai_anat.networks.pretrained.family import CONSTANTS, NON_COMMERCIAL, Family
from monai_anat.networks.pretrained.normalizations import RADIOGRAPH

__all__ = ["HEADS", "MODEL_MARKERS", "POPAR"]

#: heads of POPAR, PEAC, Lamps and ACE
HEADS = (r"head\..*", r"bias", r"decoder\..*", r"mlp\..*", r"mlp_local\..*", r"fc\..*")
#: prefixes of the backbone in files of POPAR and PEAC
MODEL_MARKERS = ("backbone.", "swin_model.", "vit_model.")

POPAR = Family(
    name="popar",
    origin="POPAR (DART 2022, Medical Image Analysis 2025)",
    # its own prefixes of the backbone, or the restoration decoder or the bare bias of the order head beside a backbone
    marks=(
        r"(?:model/)?(?:module\.)*(?:(?:backbone\.)*(?:swin_model|vit_model)\.|decoder\.0\.weight|bias$)",
        r"(?:model/)?(?:(?:module|backbone|swin_model|vit_model)\.)*patch_embed\.",
    ),
    branches={"student": ("model", "")},
    markers={"student": MODEL_MARKERS},
    drop=(*HEADS, *CONSTANTS),
    normalization=RADIOGRAPH,
    norm_eps={"SwinBackbone": 1e-5},
    terms=NON_COMMERCIAL,
)
