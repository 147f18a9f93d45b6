"""SIIM-ACR Pneumothorax Challenge: 12,047 images of ChestX-ray14, 2,669 of them with outlined pneumothorax."""

from __future__ import annotations

import os
from pathlib import Path

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.public_sets.set_tables import find_table, index_images, present_items
from monai_anat.data.lists.tables import iterate_table
from monai_anat.keys import IMAGE, LABEL

__all__ = ["read_siim_pneumothorax"]

_NONE = "-1"


def read_siim_pneumothorax(folder: str | os.PathLike[str]) -> list[Item]:
    """List the SIIM-ACR challenge: ``train-rle.csv`` or ``stage_2_train.csv``, and DICOM files in any sub-folder.

    ``label`` is 1 for pneumothorax. ``run_lengths`` are the codes of all regions of an image, which
    ``outlines.run_length_mask`` unites in one mask. Images below ``dicom-images-test`` are ``test``, if the table names
    them. The set names no persons, so each image is a patient of its own.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if the table or all images are missing, or an image is empty in one row and not in another.
    """
    root = Path(folder).expanduser()
    table = find_table(root, ["train-rle.csv", "stage_2_train.csv", "*rle*.csv"])
    places = index_images(root)
    codes: dict[str, list[str]] = {}
    for row in iterate_table(table, ["ImageId", "EncodedPixels"]):
        codes.setdefault(row.get("ImageId", ""), []).append(row.get("EncodedPixels", _NONE))
    items: list[Item | None] = []
    for name, found in codes.items():
        regions = [code for code in found if code != _NONE]
        if regions and len(regions) < len(found):
            raise DatalistError(f"{table} names {name} with a mask in one row and without in another")
        if name not in places:
            items.append(None)
            continue
        item: Item = {IMAGE: str(places[name]), "patient": name, LABEL: int(bool(regions)), "run_lengths": regions}
        parts = places[name].relative_to(root).parts
        item["split"] = "test" if any(part.startswith("dicom-images-test") for part in parts) else "training"
        items.append(item)
    return present_items(items, table)
