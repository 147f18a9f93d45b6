"""VinDr-RibCXR: 245 radiographs with the outlines of 20 ribs (Nguyen et al., MIDL 2021)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.public_sets.set_tables import find_table, present_items, read_json
from monai_anat.keys import IMAGE

__all__ = ["VINDR_RIBS", "read_vindr_ribcxr"]

#: ribs of the patient's right and left side, from the top, in the order of the channels
VINDR_RIBS = [f"{side}{number}" for side in "RL" for number in range(1, 11)]
#: folder -> split; the papers test on the folder that is called val
_SPLITS = {"train": "training", "val": "test"}


def read_vindr_ribcxr(folder: str | os.PathLike[str]) -> list[Item]:
    """List VinDr-RibCXR: ``data/train`` and ``data/val`` with images and ``Vindr_RibCXR_*_mask.json``.

    ``polygons`` maps each rib that is outlined to its points [x, y] in pixels. Ribs overlap: draw each with
    ``outlines.polygon_mask`` in a channel of its own, in the order of ``VINDR_RIBS``. The set names no persons, so each
    image is a patient of its own.

    Args:
        folder: folder of the download, which holds ``data``.

    Raises:
        DatalistError: if the lists or all images are missing, or a list has another form.
    """
    root = Path(folder).expanduser()
    root = root / "data" if (root / "data").is_dir() else root
    first = find_table(root, [f"{name}/*_mask.json" for name in _SPLITS])
    items: list[Item | None] = []
    for name, split in _SPLITS.items():
        for path in sorted(root.glob(f"{name}/*_mask.json")):
            content = read_json(path)
            if not isinstance(content, dict) or not isinstance(content.get("img"), dict):
                raise DatalistError(f"{path} must map img and the ribs to the images' numbers, got another form")
            for number, file in content["img"].items():
                place = path.parent / "img" / Path(str(file)).name
                polygons = _polygons(content, number, path)
                item: Item = {IMAGE: str(place), "patient": place.stem, "split": split, "polygons": polygons}
                items.append(item if place.is_file() else None)
    return present_items(items, first)


def _polygons(content: dict[str, Any], number: str, path: Path) -> dict[str, list[list[float]]]:
    """Return the points of each rib of an image; a rib without outline is the text None."""
    found: dict[str, list[list[float]]] = {}
    for rib in VINDR_RIBS:
        points = content.get(rib, {}).get(number, "None")
        if points in (None, "None"):
            continue
        try:
            found[rib] = [[float(point["x"]), float(point["y"])] for point in points]
        except (KeyError, TypeError, ValueError):
            raise DatalistError(f"rib {rib} of image {number} in {path} must be points with x and y") from None
    return found
