"""CheXpert: 224,316 radiographs of Stanford Hospital with 14 observations (Irvin et al., AAAI 2019)."""

from __future__ import annotations

import os
from pathlib import Path

from monai_anat.data.items import Item
from monai_anat.data.lists.public_sets.set_tables import find_table, label_number, present_items
from monai_anat.data.lists.tables import iterate_table
from monai_anat.keys import IMAGE, LABEL

__all__ = ["CHEXPERT_FINDINGS", "read_chexpert"]

#: observations in the order of the tables; MIMIC-CXR-JPG has the same
CHEXPERT_FINDINGS = [
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
]
_TABLES = {"train.csv": "training", "valid.csv": "validation", "test.csv": "test"}


def read_chexpert(folder: str | os.PathLike[str]) -> list[Item]:
    """List CheXpert: ``train.csv``, ``valid.csv``, ``test.csv`` beside the folders ``train``, ``valid``, ``test``.

    Labels are 1, 0 (also if not mentioned) or -1 (uncertain) in the order of ``CHEXPERT_FINDINGS``. A table without the
    column ``Frontal/Lateral`` leaves the view to the file name.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if the tables or all images are missing.
    """
    root = Path(folder).expanduser()
    first = find_table(root, list(_TABLES))
    items: list[Item | None] = []
    for name, split in _TABLES.items():
        table = root / name
        if not table.is_file():
            continue
        for row in iterate_table(table, ["Path"]):
            parts = Path(row.get("Path", "")).parts
            # the table's paths begin with the name that the archive had
            path = next((p for p in (root.joinpath(*parts[n:]) for n in range(len(parts))) if p.is_file()), None)
            item: Item = {
                IMAGE: str(path),
                "patient": next((part for part in parts if part.startswith("patient")), str(path)),
                "view": _view(row, parts[-1] if parts else ""),
                "split": split,
                LABEL: [label_number(row, finding, table) for finding in CHEXPERT_FINDINGS],
            }
            items.append(item if path is not None else None)
    return present_items(items, first)


def _view(row: dict[str, str], file: str) -> str:
    """Return the view in words: a projection, FRONTAL, LATERAL, or what the table has."""
    kind = row.get("Frontal/Lateral") or next((word for word in ("frontal", "lateral") if word in file.lower()), "")
    return row.get("AP/PA", "FRONTAL") if kind.lower() == "frontal" else kind.upper()
