"""Montgomery County set: 138 radiographs, 58 with tuberculosis, with masks of both lungs (Jaeger et al., 2014)."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.public_sets.clinical_readings import read_reading
from monai_anat.data.lists.public_sets.set_tables import index_images
from monai_anat.data.reading.radiograph import decode
from monai_anat.keys import IMAGE, LABEL

__all__ = ["read_montgomery"]

_NAME = re.compile(r"MCUCXR_(\d{4})_([01])")
#: images of one person, under the number of the first one
_SAME_PERSON = {"0117": "0113", "0166": "0162", "0170": "0162"}


def read_montgomery(folder: str | os.PathLike[str]) -> list[Item]:
    """List the Montgomery set: ``CXR_png``, ``ManualMask/leftMask`` and ``rightMask``, ``ClinicalReadings``.

    ``label`` is 1 for tuberculosis, from the last digit of the name. ``mask`` is MONAI's list form, the mask of the
    patient's right lung first. Which of the two folders that is, the masks' places decide: the right lung lies on the
    left of a radiograph. Five images show two persons; ``patient`` holds these persons together.

    Args:
        folder: folder of the download, such as ``MontgomerySet``.

    Raises:
        DatalistError: if there is no image.
    """
    root = Path(folder).expanduser()
    images = index_images(root, "**/CXR_png/*") or index_images(root, "*")
    masks = [index_images(root, f"**/{side}Mask/*") for side in ("left", "right")]
    items: list[Item] = []
    swap: bool | None = None
    for stem, path in images.items():
        match = _NAME.fullmatch(stem)
        if match is None:
            continue
        number, label = match.groups()
        item: Item = {IMAGE: str(path), "patient": f"MCUCXR_{_SAME_PERSON.get(number, number)}", LABEL: int(label)}
        item |= read_reading(root, stem) or read_reading(path.parent.parent, stem)
        if all(stem in side for side in masks):
            pair = [str(side[stem]) for side in masks]
            if swap is None:
                swap = _column(pair[0]) > _column(pair[1])
            item["mask"] = pair[::-1] if swap else pair
        items.append(item)
    if not items:
        raise DatalistError(f"folder must hold images such as MCUCXR_0001_0.png, got none in {str(root)!r}")
    return items


def _column(mask: str) -> float:
    """Return the column of the centroid of a mask."""
    return float(np.nonzero(decode(mask, label=True).pixels)[1].mean())
