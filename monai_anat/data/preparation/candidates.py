"""Candidates of a preparation: every file of a folder that may be an image, or every item of a list."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.datalists import Outside, load_datalist, split_names
from monai_anat.data.lists.folder_names import SPLIT_NAMES, compile_patient_pattern, patient_from_name, split_of
from monai_anat.data.lists.folder_walk import walk_folder
from monai_anat.data.lists.tables import is_table
from monai_anat.keys import IMAGE, LABEL

__all__ = [
    "Candidate",
    "Source",
    "count_passed_over",
    "iterate_candidates",
]

#: folder, datalist file, or items
Source = str | os.PathLike[str] | Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Candidate:
    """One file to prepare.

    Attributes:
        path: path of the file.
        patient: id that the images of one person share, if the list or the file name has one.
        view: projection, if the list has one.
        split: split, if the list or a folder names one.
        label: numbers to copy into the datalist.
        reason: why the file is set aside without being read; empty otherwise.
    """

    path: str
    patient: str | None = None
    view: str | None = None
    split: str | None = None
    label: Any = None
    reason: str = ""


def iterate_candidates(
    source: Source, patient_pattern: str | None = None, outside: Outside = "absolute"
) -> Iterator[Candidate]:
    """Go through a source in a fixed order, so that a position means the same file in every run.

    Args:
        source: folder of files, datalist (JSON or table, all its sections), or list of items.
        patient_pattern: regular expression that finds the patient in a file's path; see ``find_images``.
        outside: paths outside its folder that a list may name; see ``load_datalist``.

    Raises:
        DatalistError: if the source does not exist or cannot be read, or the pattern is not a regular expression.
    """
    pattern = compile_patient_pattern(patient_pattern)
    if _is_folder(source):
        root = Path(str(source)).expanduser().resolve()
        for file in walk_folder(root):
            if file.passed_over:
                continue
            relative = file.path.relative_to(root)
            patient = None if file.reason else patient_from_name(str(relative), pattern)
            yield Candidate(str(file.path), patient=patient, split=split_of(relative), reason=file.reason)
        return
    for split, items in _sections(source, outside):
        for item in items:
            path = str(item[IMAGE])
            patient = item.get("patient")
            if patient is None:
                patient = patient_from_name(Path(path).name, pattern)
            yield Candidate(
                path,
                patient=None if patient is None else str(patient),
                view=str(item["view"]).strip().upper() or None if item.get("view") else None,
                split=str(item.get("split") or split or "") or None,
                label=_numbers_only(item.get(LABEL)),
            )


def count_passed_over(source: Source) -> Counter[str]:
    """Count the files of a folder that are not even candidates.

    Args:
        source: as for :func:`iterate_candidates`.

    Returns:
        File ending, or ``hidden``, -> number of files. Empty for lists.
    """
    if not _is_folder(source):
        return Counter()
    return Counter(file.reason for file in walk_folder(str(source)) if file.passed_over)


def _is_folder(source: Source) -> bool:
    return isinstance(source, (str, os.PathLike)) and Path(source).expanduser().is_dir()


def _sections(source: Source, outside: Outside) -> Iterator[tuple[str | None, list[dict[str, Any]]]]:
    """Yield the sections of a list with their items; None for items in no section."""
    names = split_names(source) if isinstance(source, (str, os.PathLike)) else []
    for name in sorted(names, key=lambda name: (SPLIT_NAMES.index(name) if name in SPLIT_NAMES else 9, name)):
        yield name, load_datalist(source, name, check_files=False, outside=outside)
    if not names:
        yield None, load_datalist(source, check_files=False, outside=outside)
    elif is_table(str(source)):
        try:
            yield None, load_datalist(source, "", check_files=False, outside=outside)
        except DatalistError:
            return  # no row of the table is without a split


def _numbers_only(value: Any) -> Any:
    """Return a label that is a number or a list of numbers, else None: text may hold anything and is left behind."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, str):
        try:
            return float(value) if "." in value else int(value)
        except ValueError:
            return None
    if isinstance(value, (list, tuple)):
        numbers = [_numbers_only(entry) for entry in value]
        return None if any(isinstance(n, (list, type(None))) for n in numbers) else numbers
    return None
