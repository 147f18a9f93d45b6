"""CXR-LT: long-tailed labels for the images of MIMIC-CXR-JPG (Holste et al., 2023 and 2024)."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath

from monai_anat.data.items import DatalistError, Item
from monai_anat.data.lists.public_sets.set_tables import find_table, label_number, present_items
from monai_anat.data.lists.tables import iterate_table, table_columns
from monai_anat.keys import IMAGE, LABEL

__all__ = ["cxr_lt_findings", "read_cxr_lt"]

_SPLITS = {"train": "training", "val": "validation", "development": "validation", "dev": "validation", "test": "test"}
#: columns that are no findings
_OTHERS = frozenset(("path", "fpath", "dicom_id", "subject_id", "study_id", "split", "viewposition", ""))


def cxr_lt_findings(table: str | os.PathLike[str]) -> list[str]:
    """Return the findings of a table of CXR-LT in the order of its columns.

    Args:
        table: one of its tables of labels.
    """
    return [column for column in table_columns(table) if column.lower() not in _OTHERS]


def read_cxr_lt(folder: str | os.PathLike[str]) -> list[Item]:
    """List CXR-LT: its tables of labels (in any sub-folder) and the folder ``files`` of MIMIC-CXR-JPG.

    Labels are 0 or 1 in the order of the training table's columns, see :func:`cxr_lt_findings`. Images are found by the
    column ``path`` or ``fpath``.

    Args:
        folder: folder that holds both downloads.

    Raises:
        DatalistError: if the tables or all images are missing, or the tables differ in their findings.
    """
    root = Path(folder).expanduser()
    first = find_table(root, ["**/*cxr-lt*train*.csv*", "**/*cxr-lt*.csv*"])
    findings = cxr_lt_findings(first)
    items: list[Item | None] = []
    for table in sorted(root.glob("**/*cxr-lt*.csv*")):
        words = table.name.removesuffix(".gz").removesuffix(".csv").lower().replace("-", "_").split("_")
        split = next((_SPLITS[word] for word in reversed(words) if word in _SPLITS), None)
        if split is None:
            continue
        columns = table_columns(table)
        key = next((name for name in ("path", "fpath") if name in columns), None)
        missing = [name for name in findings if name not in columns]
        if key is None or (missing and len(missing) < len(findings)):
            raise DatalistError(
                f"table {table} must have a column path or fpath and the findings of {first.name}, got "
                f"the columns {columns}"
            )
        for row in iterate_table(table):
            place = PurePosixPath(row.get(key, ""))
            path = next((p for p in (root / place, root / "files" / place) if p.is_file()), None)
            patient = next((part[1:] for part in place.parts if part[:1] == "p" and len(part) > 4), str(place))
            item: Item = {IMAGE: str(path), "patient": patient, "split": split}
            if not missing:
                item[LABEL] = [label_number(row, name, table) for name in findings]
            items.append(item if path is not None else None)
    return present_items(items, first)
