"""PadChest: 160,868 radiographs of Hospital San Juan, Alicante (Bustos et al., Medical Image Analysis 2020)."""

from __future__ import annotations

import os
from pathlib import Path

from monai_anat.data.items import Item
from monai_anat.data.lists.public_sets.set_tables import find_table, present_items
from monai_anat.data.lists.tables import iterate_table
from monai_anat.keys import IMAGE

__all__ = ["read_padchest"]

_VIEWS = {"L": "LATERAL", "PA": "PA", "AP": "AP", "AP_horizontal": "AP"}


def read_padchest(folder: str | os.PathLike[str]) -> list[Item]:
    """List PadChest: ``PADCHEST_chest_x_ray_images_labels_*.csv`` (plain or gzip), images in numbered folders or flat.

    Its labels are words and are left out. ``Projection`` becomes ``view``. COSTAL and EXCLUDE, which show ribs at
    another exposure or no chest, are kept in these words: no known frontal view.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if the table or all images are missing, or the table cannot be read.
    """
    root = Path(folder).expanduser()
    table = find_table(root, ["PADCHEST_chest_x_ray_images_labels*.csv*"])
    items: list[Item | None] = []
    for row in iterate_table(table, ["ImageID", "PatientID"]):
        name, view = row.get("ImageID", ""), row.get("Projection", "")
        places = (root / row.get("ImageDir", "") / name, root / name)
        path = next((place for place in places if place.is_file()), None)
        item: Item = {IMAGE: str(path), "patient": row.get("PatientID", name), "view": _VIEWS.get(view, view.upper())}
        items.append(item if path is not None else None)
    return present_items(items, table)
