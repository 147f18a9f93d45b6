"""Tables and files of public data sets: finding them, reading labels, counting what is missing."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_anat.data.items import DatalistError, Item

__all__ = [
    "age_and_sex",
    "find_table",
    "index_images",
    "label_number",
    "present_items",
    "read_json",
]

_OLDEST = 120
_SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm", ".dicom")

logger = logging.getLogger(__name__)


def age_and_sex(age: str | None, sex: str | None) -> Item:
    """Return age in years and sex from the cells of a table, as far as they are known.

    Args:
        age: a number, also as ``057Y``. Zero and more than 120 years are unknown.
        sex: a word that begins with F or M.

    >>> age_and_sex("057Y", "Female"), age_and_sex("414", "Unknown")
    ({'age': 57, 'sex': 'F'}, {})
    """
    found: Item = {}
    years = re.fullmatch(r"0*(\d+)(?:\.0+)?[yY]?", (age or "").strip())
    if years and 0 < int(years.group(1)) <= _OLDEST:
        found["age"] = int(years.group(1))
    letter = (sex or "").strip()[:1].upper()
    return {**found, "sex": letter} if letter in ("F", "M") else found


def find_table(root: Path, patterns: Sequence[str]) -> Path:
    """Return the first table of a data set that exists.

    Args:
        root: folder of the data set.
        patterns: file name patterns in order of preference.

    Raises:
        DatalistError: if there is none. The message names the patterns.
    """
    for pattern in patterns:
        found = sorted(root.glob(pattern))
        if found:
            return found[0]
    raise DatalistError(f"folder must hold {' or '.join(patterns)}, got none in {str(root)!r}")


def index_images(root: Path, pattern: str = "**/*") -> dict[str, Path]:
    """Return the images of a data set by their stems; the first one in alphabetical order counts.

    Args:
        root: folder of the data set.
        pattern: glob pattern relative to it, without the ending.
    """
    found: dict[str, Path] = {}
    for path in sorted(root.glob(pattern)):
        if path.suffix.lower() in _SUFFIXES:
            found.setdefault(path.stem, path)
    return found


def read_json(path: Path) -> Any:
    """Read a JSON file of a data set.

    Args:
        path: the file.

    Raises:
        DatalistError: if it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise DatalistError(f"{path} must be JSON, got text that is not: {error}; obtain it again") from None


def label_number(row: Mapping[str, str], column: str, table: Path) -> int:
    """Return a label of a row: 1, 0, -1 for uncertain, and 0 for an empty cell.

    Args:
        row: row of the table.
        column: name of the finding.
        table: table, for the message.

    Raises:
        DatalistError: if the cell holds anything else.

    >>> label_number({"Edema": "-1.0"}, "Edema", Path("train.csv")), label_number({}, "Edema", Path("train.csv"))
    (-1, 0)
    """
    cell = row.get(column, "0")
    try:
        number = float(cell)
    except ValueError:
        number = float("nan")
    if number not in (-1, 0, 1):
        raise DatalistError(f"labels of {table} must be 1, 0, -1 or empty, got {cell!r} in the column {column!r}")
    return int(number)


def present_items(items: Sequence[Item | None], table: Path) -> list[Item]:
    """Keep the items with an image on disk, and log how many are missing.

    Args:
        items: items; None for an image that is not on disk.
        table: table that names them, for the message.

    Raises:
        DatalistError: if no image is on disk.
    """
    present = [item for item in items if item is not None]
    missing = len(items) - len(present)
    if not present:
        raise DatalistError(
            f"the images of {table.name} must be on disk, got none of {len(items)} under {table.parent}"
        )
    if missing:
        logger.warning(f"{missing} of {len(items)} images that {table.name} names are not on disk and are left out")
    return present
