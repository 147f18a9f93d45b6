"""ChestX-Det: 3,578 images of ChestX-ray14 with boxes and polygons of 13 findings (Lian et al., 2021)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.public_sets.set_tables import find_table, index_images, present_items, read_json
from monai_anat.keys import IMAGE, LABEL

__all__ = ["CHESTX_DET_FINDINGS", "read_chestx_det"]

#: findings in alphabetical order; ChestX-Det10 lacks Cardiomegaly, Diffuse Nodule and Pleural Thickening
CHESTX_DET_FINDINGS = [
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Consolidation",
    "Diffuse Nodule",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Fracture",
    "Mass",
    "Nodule",
    "Pleural Thickening",
    "Pneumothorax",
]
_LISTS = {"training": ["ChestX_Det_train.json", "train.json"], "test": ["ChestX_Det_test.json", "test.json"]}


def read_chestx_det(folder: str | os.PathLike[str]) -> list[Item]:
    """List ChestX-Det or ChestX-Det10: its two JSON lists and the folders ``train*`` and ``test*``.

    ``label`` is 0 or 1 in the order of ``CHESTX_DET_FINDINGS``. ``findings``, ``boxes`` ([x1, y1, x2, y2] in pixels)
    and ``polygons`` run in parallel; ``outlines.polygon_mask`` draws the latter. The set names no persons, so each
    image is a patient of its own.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if the lists or all images are missing, or the entries of a list do not agree.
    """
    root = Path(folder).expanduser()
    first = find_table(root, [name for names in _LISTS.values() for name in names])
    items: list[Item | None] = []
    for split, names in _LISTS.items():
        path = next((root / name for name in names if (root / name).is_file()), None)
        places = index_images(root, f"{split[:4] if split == 'test' else 'train'}*/**/*")
        for entry in read_json(path) if path is not None else []:
            item = _item(entry, split, path)
            place = places.get(Path(str(entry["file_name"])).stem)
            items.append({**item, IMAGE: str(place)} if place is not None else None)
    return present_items(items, first)


def _item(entry: Any, split: str, path: Path | None) -> Item:
    try:
        name, found, boxes = str(entry["file_name"]), list(entry["syms"]), list(entry["boxes"])
        polygons = list(entry.get("polygons", []))
    except (KeyError, TypeError, AttributeError):
        raise DatalistError(f"entries of {path} must have file_name, syms and boxes, got {str(entry)[:80]}") from None
    if len(boxes) != len(found) or (polygons and len(polygons) != len(found)):
        raise DatalistError(
            f"findings, boxes and polygons of {name} in {path} must be of one length, got {len(found)}, {len(boxes)} "
            f"and {len(polygons)}"
        )
    unknown = sorted(set(found) - set(CHESTX_DET_FINDINGS))
    if unknown:
        raise DatalistError(f"findings of {path} must be of {CHESTX_DET_FINDINGS}, got {unknown} for {name}")
    label = [int(finding in found) for finding in CHESTX_DET_FINDINGS]
    further = {"findings": found, "boxes": boxes, "polygons": polygons}
    return {IMAGE: name, "patient": Path(name).stem, "split": split, LABEL: label, **further}
