"""CheXpert: 224,316 radiographs of Stanford Hospital with 14 observations (Irvin et al., AAAI 2019)."""

from __future__ import annotations

import os
from pathlib import Path

from monai_anat.data.items import Item
from monai_anat.data.lists.public_sets.set_tables import age_and_sex, find_table, label_number, present_items
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
    column ``Frontal/Lateral`` leaves the view to the file name. The full-size download with its folders
    ``CheXpert-v1.0 batch 2 (train 1)`` is read as well. ``age`` and ``sex`` are given where they are known.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if the tables or all images are missing.
    """
    root = Path(folder).expanduser()
    first = find_table(root, list(_TABLES))
    roots = [root, *sorted(root.glob("CheXpert-v1.0 batch *"))]
    items: list[Item | None] = []
    for name, split in _TABLES.items():
        table = root / name
        if not table.is_file():
            continue
        for row in iterate_table(table, ["Path"]):
            parts = Path(row.get("Path", "")).parts
            path = _find(row.get("Path", ""), roots)
            item: Item = {
                IMAGE: str(path),
                "patient": next((part for part in parts if part.startswith("patient")), str(path)),
                "view": _view(row, parts[-1] if parts else ""),
                "split": split,
                LABEL: [label_number(row, finding, table) for finding in CHEXPERT_FINDINGS],
                **age_and_sex(row.get("Age"), row.get("Sex")),
            }
            items.append(item if path is not None else None)
    return present_items(items, first)


def _find(listed: str, roots: list[Path]) -> Path | None:
    """Find an image whose path in the table begins with the name of the archive or of another folder."""
    parts = Path(listed).parts
    places = (root.joinpath(*parts[n:]) for root in roots for n in range(len(parts)))
    return next((place for place in places if place.is_file()), None)


def _view(row: dict[str, str], file: str) -> str:
    """Return the view in words: a projection, FRONTAL, LATERAL, or what the table has."""
    kind = row.get("Frontal/Lateral") or next((word for word in ("frontal", "lateral") if word in file.lower()), "")
    return row.get("AP/PA", "FRONTAL") if kind.lower() == "frontal" else kind.upper()
