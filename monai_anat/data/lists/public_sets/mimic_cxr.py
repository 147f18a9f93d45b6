"""MIMIC-CXR-JPG: 377,110 radiographs of Beth Israel Deaconess Medical Center (Johnson et al., arXiv:1901.07042)."""

from __future__ import annotations

import os
from pathlib import Path

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.public_sets.chexpert import CHEXPERT_FINDINGS
from monai_anat.data.lists.public_sets.set_tables import find_table, label_number, present_items
from monai_anat.data.lists.tables import iterate_table
from monai_anat.keys import IMAGE, LABEL

__all__ = ["read_mimic_cxr"]

_SPLITS = {"train": "training", "validate": "validation", "test": "test"}


def read_mimic_cxr(folder: str | os.PathLike[str]) -> list[Item]:
    """List MIMIC-CXR-JPG: its ``-metadata``, ``-split`` and ``-chexpert`` tables (plain or gzip) beside ``files``.

    Labels are those of the study's report, as for CheXpert.

    Args:
        folder: folder of the download.

    Raises:
        DatalistError: if the metadata table or all images are missing, or a table cannot be read.
    """
    root = Path(folder).expanduser()
    table = find_table(root, ["mimic-cxr-*-metadata.csv*"])
    splits = _official_splits(root)
    labels: dict[tuple[str | None, str | None], list[int]] = {}
    for path in sorted(root.glob("mimic-cxr-*-chexpert.csv*")):
        for row in iterate_table(path, ["subject_id", "study_id"]):
            label = [label_number(row, finding, path) for finding in CHEXPERT_FINDINGS]
            labels[row.get("subject_id"), row.get("study_id")] = label
    items: list[Item | None] = []
    for row in iterate_table(table, ["dicom_id", "subject_id", "study_id"]):
        subject, study, name = (row.get(column, "") for column in ("subject_id", "study_id", "dicom_id"))
        path = root / "files" / f"p{subject[:2]}" / f"p{subject}" / f"s{study}" / f"{name}.jpg"
        item: Item = {IMAGE: str(path), "patient": subject, "view": row.get("ViewPosition", "")}
        if name in splits:
            item["split"] = splits[name]
        if (subject, study) in labels:
            item[LABEL] = labels[subject, study]
        items.append(item if path.is_file() else None)
    return present_items(items, table)


def _official_splits(root: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for path in sorted(root.glob("mimic-cxr-*-split.csv*")):
        for row in iterate_table(path, ["dicom_id", "split"]):
            word = row.get("split", "")
            if word not in _SPLITS:
                raise DatalistError(f"splits of {path} must be one of {list(_SPLITS)}, got {word!r}")
            splits[row.get("dicom_id", "")] = _SPLITS[word]
    return splits
