"""TBX11K: 11,200 radiographs, healthy, sick without tuberculosis, and with tuberculosis (Liu et al., CVPR 2020)."""

from __future__ import annotations

import ast
import os
from pathlib import Path

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.public_sets.set_tables import find_table, present_items
from monai_anat.data.lists.tables import iterate_table
from monai_anat.keys import IMAGE, LABEL

__all__ = ["TBX11K_CLASSES", "read_tbx11k"]

#: exclusive classes in the order of the class numbers
TBX11K_CLASSES = ["healthy", "sick but not tuberculosis", "tuberculosis"]
_FOLDERS = {"health": 0, "sick": 1, "tb": 2}
_WORDS = {"healthy": 0, "sick_but_no_tb": 1, "tb": 2}
#: split -> names of its list, the official one first
_LISTS = {
    "training": ["TBX11K_train.txt", "all_train.txt"],
    "validation": ["TBX11K_val.txt", "all_val.txt"],
    "test": ["all_test.txt", "TBX11K_test.txt"],
}
_BOX = ("xmin", "ymin", "width", "height")


def read_tbx11k(folder: str | os.PathLike[str]) -> list[Item]:
    """List TBX11K: ``imgs`` and ``lists``, or ``images`` and ``data.csv`` of the simplified copy.

    ``label`` is a class number in the order of ``TBX11K_CLASSES``; the labels of the official test images are withheld.
    The simplified copy has ``boxes``, [x, y, width, height] in pixels. The set names no patients, so each image is a
    patient of its own.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if lists or all images are missing.
    """
    root = Path(folder).expanduser()
    if (root / "data.csv").is_file():
        return _simplified(root)
    first = find_table(root, [f"lists/{name}" for names in _LISTS.values() for name in names])
    items: list[Item | None] = []
    for split, names in _LISTS.items():
        table = next((root / "lists" / name for name in names if (root / "lists" / name).is_file()), None)
        for line in table.read_text(encoding="utf-8-sig").split() if table is not None else []:
            path = root / "imgs" / line
            item: Item = {IMAGE: str(path), "patient": Path(line).stem, "split": split}
            if Path(line).parts[0] in _FOLDERS and split != "test":
                item[LABEL] = _FOLDERS[Path(line).parts[0]]
            items.append(item if path.is_file() else None)
    return present_items(items, first)


def _simplified(root: Path) -> list[Item]:
    """List the simplified copy. Its table has one row per box."""
    table = root / "data.csv"
    items: dict[str, Item] = {}
    for row in iterate_table(table, ["fname", "image_type"]):
        name, word = row.get("fname", ""), row.get("image_type", "")
        if word not in _WORDS:
            raise DatalistError(f"image_type of {table} must be one of {list(_WORDS)}, got {word!r} for {name}")
        path = root / "images" / name
        item = items.setdefault(name, {IMAGE: str(path), "patient": Path(name).stem, LABEL: _WORDS[word], "boxes": []})
        item["boxes"] += _boxes(row.get("bbox", "none"), table)
    return present_items([item if Path(item[IMAGE]).is_file() else None for item in items.values()], table)


def _boxes(text: str, table: Path) -> list[list[float]]:
    """Read a box that is printed as a Python dict, or ``none``."""
    if text.lower() == "none":
        return []
    try:
        box = ast.literal_eval(text)
        return [[float(box[name]) for name in _BOX]]
    except (ValueError, SyntaxError, KeyError, TypeError):
        raise DatalistError(f"bbox of {table} must be none or a dict of {list(_BOX)}, got {text!r}") from None
