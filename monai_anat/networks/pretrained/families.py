"""Registry of the families of weights, and detection of a file's family."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_anat.networks.pretrained.ace import ACE
from monai_anat.networks.pretrained.adam import ADAM
from monai_anat.networks.pretrained.adam_v2 import ADAM_V2
from monai_anat.networks.pretrained.convnext import CONVNEXT, HUGGINGFACE_CONVNEXT, TIMM_CONVNEXT
from monai_anat.networks.pretrained.dino import DINO, IBOT, STUDENT_TEACHER
from monai_anat.networks.pretrained.dira import DIRA
from monai_anat.networks.pretrained.family import Family, has_marks, key_names, tensors_in
from monai_anat.networks.pretrained.lamps import LAMPS
from monai_anat.networks.pretrained.mae import MAE
from monai_anat.networks.pretrained.mlvicx import MLVICX
from monai_anat.networks.pretrained.moco import MOCO, MOCO_V3
from monai_anat.networks.pretrained.own import MONAI_ANAT
from monai_anat.networks.pretrained.peac import PEAC
from monai_anat.networks.pretrained.popar import POPAR
from monai_anat.networks.pretrained.resnet import TORCHVISION_RESNET
from monai_anat.networks.pretrained.swin import HUGGINGFACE_SWIN, SWIN
from monai_anat.networks.pretrained.vit import HUGGINGFACE_VIT, TIMM_VIT

__all__ = ["FAMILIES", "detect_family"]

_ORDER = (
    MONAI_ANAT,
    PEAC,
    ADAM_V2,
    LAMPS,
    ACE,
    MLVICX,
    DIRA,
    ADAM,
    POPAR,
    IBOT,
    DINO,
    MAE,
    MOCO,
    MOCO_V3,
    STUDENT_TEACHER,
    SWIN,
    HUGGINGFACE_SWIN,
    TIMM_VIT,
    HUGGINGFACE_VIT,
    CONVNEXT,
    TIMM_CONVNEXT,
    HUGGINGFACE_CONVNEXT,
    TORCHVISION_RESNET,
)
#: families by name, in the order in which ``family="auto"`` tries them: marks of authors before general layouts
FAMILIES: dict[str, Family] = {family.name: family for family in _ORDER}


def detect_family(content: Mapping[str, Any], own: Mapping[str, Tensor], file: Path) -> str:
    """Detect the family of a file by its marks.

    Args:
        content: content of the file.
        own: state dict of the backbone that is to be loaded.
        file: the file, for messages.

    Returns:
        Name of the family.

    Raises:
        ValueError: if no family fits. The message lists the families and the first keys of the file.
    """
    groups = tensors_in(content)
    flat = groups.get("", {})
    if flat.keys() == own.keys() and all(flat[key].shape == own[key].shape for key in own):
        return "monai_anat"  # nothing has to be converted, whoever wrote it
    numbers = [f"number/{name}" for name, value in content.items() if isinstance(value, int | float)]
    names = [*key_names(groups), *numbers]
    for name, family in FAMILIES.items():
        if has_marks(family, names):
            return name
    shown = ", ".join(key_names(groups)[:3]) or "no tensor at all"
    raise ValueError(
        f"{file} is of no family that load_backbone knows ({', '.join(FAMILIES)}); it begins with {shown}. "
        "Name the family by family=... (--family), or rename the keys to the backbone's own"
    )
