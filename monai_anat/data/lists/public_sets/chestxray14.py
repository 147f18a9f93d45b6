"""ChestX-ray14: 112,120 frontal radiographs of the NIH Clinical Center with 14 findings (Wang et al., CVPR 2017)."""

from __future__ import annotations

import os
from pathlib import Path

from monai_anat.data.items import Item
from monai_anat.data.lists.public_sets.set_tables import age_and_sex, find_table, present_items
from monai_anat.data.lists.tables import iterate_table
from monai_anat.keys import IMAGE, LABEL

__all__ = ["CHESTXRAY14_FINDINGS", "read_chestxray14"]

#: findings in the order of the papers' lists
CHESTXRAY14_FINDINGS = [
    "Atelectasis",
    "Cardiomegaly",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumonia",
    "Pneumothorax",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Fibrosis",
    "Pleural_Thickening",
    "Hernia",
]


def read_chestxray14(folder: str | os.PathLike[str]) -> list[Item]:
    """List ChestX-ray14: ``Data_Entry_2017*.csv``, ``train_val_list.txt``, ``test_list.txt``, images in any sub-folder.

    Labels are 0 or 1 in the order of ``CHESTXRAY14_FINDINGS``. The official list for training and validation becomes
    ``training``. ``age`` and ``sex`` are given where they are known.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if the table or all images are missing.
    """
    root = Path(folder).expanduser()
    table = find_table(root, ["Data_Entry_2017*.csv"])
    places = {path.name: path for path in root.rglob("*.png")}
    official: dict[str, str] = {}
    for name, split in (("train_val_list.txt", "training"), ("test_list.txt", "test")):
        if (root / name).is_file():
            official.update(dict.fromkeys((root / name).read_text(encoding="utf-8-sig").split(), split))
    items: list[Item | None] = []
    for row in iterate_table(table, ["Image Index", "Finding Labels", "Patient ID"]):
        name = row.get("Image Index", "")
        if name not in places:
            items.append(None)
            continue
        findings = [finding.strip() for finding in row.get("Finding Labels", "").split("|")]
        item: Item = {
            IMAGE: str(places[name]),
            "patient": row.get("Patient ID", name),
            "view": row.get("View Position", ""),
            LABEL: [int(finding in findings) for finding in CHESTXRAY14_FINDINGS],
            **age_and_sex(row.get("Patient Age"), row.get("Patient Gender")),
        }
        if name in official:
            item["split"] = official[name]
        items.append(item)
    return present_items(items, table)
