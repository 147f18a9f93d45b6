"""Shenzhen set: 662 radiographs, 336 of them with tuberculosis (Jaeger et al., 2014), and lung masks of 566."""

from __future__ import annotations

import os
import re
from pathlib import Path

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.public_sets.clinical_readings import read_reading
from monai_anat.data.lists.public_sets.set_tables import index_images
from monai_anat.keys import IMAGE, LABEL

__all__ = ["read_shenzhen"]

_NAME = re.compile(r"CHNCXR_\d{4}_([01])")


def read_shenzhen(folder: str | os.PathLike[str]) -> list[Item]:
    """List the Shenzhen set: images ``CHNCXR_0001_0.png`` in any sub-folder, readings in ``ClinicalReadings``.

    ``label`` is 1 for tuberculosis, from the last digit of the name. ``mask`` is the lung mask ``<stem>_mask.png`` of
    Stirenko et al. where there is one. ``sex`` and ``age`` are from the readings where they can be found.

    Args:
        folder: folder of the download, such as ``ChinaSet_AllFiles``.

    Raises:
        DatalistError: if there is no image.
    """
    root = Path(folder).expanduser()
    files = index_images(root)
    items: list[Item] = []
    for stem, path in files.items():
        match = _NAME.fullmatch(stem)
        if match is None:
            continue
        item: Item = {IMAGE: str(path), "patient": stem, LABEL: int(match.group(1)), **_reading(root, path)}
        if f"{stem}_mask" in files:
            item["mask"] = str(files[f"{stem}_mask"])
        items.append(item)
    if not items:
        raise DatalistError(f"folder must hold images such as CHNCXR_0001_0.png, got none in {str(root)!r}")
    return items


def _reading(root: Path, image: Path) -> Item:
    """Read the reading beside the images or in the folder that was given."""
    return read_reading(root, image.stem) or read_reading(image.parent.parent, image.stem)
