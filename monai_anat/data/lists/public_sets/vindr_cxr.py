"""VinDr-CXR: 18,000 radiographs from two hospitals in Vietnam, read by radiologists (Nguyen et al., 2022)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from monai_anat.data.items import Item
from monai_anat.data.lists.public_sets.set_tables import find_table, label_number, present_items
from monai_anat.data.lists.tables import iterate_table, table_columns
from monai_anat.keys import IMAGE, LABEL

__all__ = ["read_vindr_cxr"]

_NO_FINDINGS = ("image_id", "rad_id", "rad_ID", "")
_SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")


def read_vindr_cxr(folder: str | os.PathLike[str]) -> list[Item]:
    """List VinDr-CXR: ``train`` and ``test`` with DICOM files, ``annotations/image_labels_*.csv``.

    Labels are 1 if most of the readers of an image marked the finding, in the order of the table's columns. The set
    names no patients, so each image is a patient of its own.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if the tables or all images are missing.
    """
    root = Path(folder).expanduser()
    first = find_table(root, ["annotations/image_labels_train.csv", "annotations/image_labels_test.csv"])
    items: list[Item | None] = []
    for name, split in (("train", "training"), ("test", "test")):
        table = root / "annotations" / f"image_labels_{name}.csv"
        if not table.is_file():
            continue
        findings = [column for column in table_columns(table) if column not in _NO_FINDINGS]
        votes: dict[str, list[list[int]]] = {}
        for row in iterate_table(table, ["image_id"]):
            marks = [label_number(row, finding, table) for finding in findings]
            votes.setdefault(row.get("image_id", ""), []).append(marks)
        for image, marks_of_readers in votes.items():
            label = (np.mean(marks_of_readers, axis=0) > 0.5).astype(int).tolist()
            place = next((p for s in _SUFFIXES if (p := root / name / f"{image}{s}").is_file()), None)
            items.append({IMAGE: str(place), "split": split, LABEL: label} if place is not None else None)
    return present_items(items, first)
