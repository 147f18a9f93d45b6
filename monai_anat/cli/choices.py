"""Names that the command line offers, written out so that ``--help`` imports nothing heavy.

Tests compare each tuple with the registry that it repeats.
"""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["ARCHITECTURES", "FAMILIES", "PROTOCOLS", "PUBLIC_SETS"]

#: keys of ``cli.verbs.ARCHITECTURES``
ARCHITECTURES = (
    "convnext_b",
    "convnext_t",
    "resnet18",
    "resnet18_expand",
    "resnet50",
    "resnet50_expand",
    "swin_b",
    "swin_t",
    "vit_b_16",
    "vit_b_32_448",
)
#: keys of ``networks.pretrained.families.FAMILIES``
FAMILIES = (
    "monai_anat",
    "peac",
    "adam_v2",
    "lamps",
    "ace",
    "mlvicx",
    "dira",
    "adam",
    "popar",
    "ibot",
    "dino",
    "mae",
    "moco",
    "moco_v3",
    "student_teacher",
    "swin",
    "huggingface_swin",
    "timm_vit",
    "huggingface_vit",
    "convnext",
    "timm_convnext",
    "huggingface_convnext",
    "torchvision_resnet",
)
_PROBES = Path(__file__).parents[1] / "evaluation" / "probes"
#: names in ``evaluation.PROTOCOLS``, read from the files of the protocols without importing them
PROTOCOLS = tuple(
    sorted(
        name
        for file in _PROBES.glob("*.py")
        for name in re.findall(r'^    name: ClassVar\[str\] = "(.+)"$', file.read_text(encoding="utf-8"), re.MULTILINE)
    )
)
#: keys of ``data.PUBLIC_SETS``
PUBLIC_SETS = (
    "chestx_det",
    "chestxray14",
    "chexpert",
    "cxr_lt",
    "mimic_cxr",
    "montgomery",
    "padchest",
    "rsna_pneumonia",
    "shenzhen",
    "siim_pneumothorax",
    "tbx11k",
    "vindr_cxr",
    "vindr_ribcxr",
)
