"""Registry of the readers of public data sets.

Every reader gets the folder of a data set in the layout of its download. It returns items with ``image``, ``patient``
if the set names patients, ``view``, ``split`` if the set has an official one, and ``label`` (numbers in the order that
its docstring names). Images that a table names and the disk lacks are left out and counted in the log.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from monai_anat.data.items import Item
from monai_anat.data.lists.public_sets.chestx_det import read_chestx_det
from monai_anat.data.lists.public_sets.chestxray14 import read_chestxray14
from monai_anat.data.lists.public_sets.chexpert import read_chexpert
from monai_anat.data.lists.public_sets.cxr_lt import read_cxr_lt
from monai_anat.data.lists.public_sets.mimic_cxr import read_mimic_cxr
from monai_anat.data.lists.public_sets.montgomery import read_montgomery
from monai_anat.data.lists.public_sets.padchest import read_padchest
from monai_anat.data.lists.public_sets.rsna_pneumonia import read_rsna_pneumonia
from monai_anat.data.lists.public_sets.shenzhen import read_shenzhen
from monai_anat.data.lists.public_sets.siim_pneumothorax import read_siim_pneumothorax
from monai_anat.data.lists.public_sets.tbx11k import read_tbx11k
from monai_anat.data.lists.public_sets.vindr_cxr import read_vindr_cxr
from monai_anat.data.lists.public_sets.vindr_ribcxr import read_vindr_ribcxr

__all__ = ["PUBLIC_SETS"]

#: name on the command line -> reader
PUBLIC_SETS: dict[str, Callable[[str | os.PathLike[str]], list[Item]]] = {
    "chestx_det": read_chestx_det,
    "chestxray14": read_chestxray14,
    "chexpert": read_chexpert,
    "cxr_lt": read_cxr_lt,
    "mimic_cxr": read_mimic_cxr,
    "montgomery": read_montgomery,
    "padchest": read_padchest,
    "rsna_pneumonia": read_rsna_pneumonia,
    "shenzhen": read_shenzhen,
    "siim_pneumothorax": read_siim_pneumothorax,
    "tbx11k": read_tbx11k,
    "vindr_cxr": read_vindr_cxr,
    "vindr_ribcxr": read_vindr_ribcxr,
}
