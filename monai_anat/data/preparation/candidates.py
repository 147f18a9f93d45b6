"""What ``prepare`` looks at: every file of a folder that may be an image, or every item of a list, one at a time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.datalists import leads_out, load_datalist, patient_from_name, split_names
from monai_anat.data.reading.radiograph import has_image_mark
from monai_anat.keys import IMAGE, LABEL

__all__ = [
    "Candidate",
    "count_source",
    "iterate_candidates",
]

#: files that are no images and are not worth a line in rejected.csv
_OTHER_SUFFIXES = frozenset(
    [
        ".csv",
        ".tsv",
        ".json",
        ".txt",
        ".md",
        ".rst",
        ".xml",
        ".html",
        ".htm",
        ".py",
        ".log",
        ".yaml",
        ".yml",
        ".ini",
        ".npy",
        ".npz",
        ".pt",
        ".xlsx",
        ".xls",
        ".db",
        ".sql",
        ".sh",
        ".bat",
        ".exe",
        ".dll",
        ".so",
        ".ipynb",
        ".toml",
        ".cfg",
        ".lock",
        ".sum",
        ".sha256",
        ".md5",
        ".raw",
        ".img",
    ]
)


_PASSED_OVER = "passed over"
#: where a patient is in two splits, the first decides
_SPLIT_ORDER = ("training", "validation", "test")


@dataclass(frozen=True)
class Candidate:
    """One file to prepare.

    Attributes:
        path: the file.
        patient: id that images of one person share, if the list or the file name says so.
        view: projection, if the list says so.
        split: split, if the list says so.
        label: numbers to carry into the datalist.
        reason: why it is set aside without a look, or empty.
    """

    path: str
    patient: str | None = None
    view: str | None = None
    split: str | None = None
    label: Any = None
    reason: str = ""


def iterate_candidates(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]], patient_pattern: str | None = None
) -> Iterator[Candidate]:
    """Go through a source in a fixed order, so that a position means the same file at every run.

    Args:
        source: a folder of files, a datalist (JSON or CSV; all its sections), or a list of items.
        patient_pattern: rule that finds the patient in a file's path; see ``find_images``.

    Raises:
        DatalistError: the source does not exist or cannot be read.
    """
    if isinstance(source, (str, os.PathLike)) and Path(source).is_dir():
        root = Path(source).resolve()
        for file, reason in _walk(root):
            if reason != _PASSED_OVER:
                patient = patient_from_name(str(file.relative_to(root)), patient_pattern)
                yield Candidate(str(file), patient=None if reason else patient, reason=reason)
        return
    for split, items in _sections(source):
        for item in items:
            path = str(item[IMAGE])
            patient = item.get("patient")
            if patient is None:
                patient = patient_from_name(Path(path).name, patient_pattern)
            yield Candidate(
                path,
                patient=None if patient is None else str(patient),
                view=str(item["view"]).upper() if item.get("view") else None,
                split=str(item.get("split") or split or "") or None,
                label=_numbers_only(item.get(LABEL)),
            )


def count_source(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
) -> tuple[int, Counter[str]]:
    """Count the candidates of a source, and the files of a folder that are passed over.

    Args:
        source: as of ``iterate_candidates``.

    Returns:
        How many candidates, and how many files of each ending (or ``hidden``) are not even that.
    """
    if not isinstance(source, (str, os.PathLike)) or not Path(source).is_dir():
        return sum(1 for _ in iterate_candidates(source)), Counter()
    found, passed = 0, Counter[str]()
    for path, reason in _walk(Path(source).resolve()):
        if reason == _PASSED_OVER:
            passed["hidden" if path.name.startswith(".") else path.suffix.lower()] += 1
        else:
            found += 1
    return found, passed


def _walk(root: Path) -> Iterator[tuple[Path, str]]:
    """Every file under a folder in a fixed order, and why it is set aside or passed over, if it is."""
    closed: list[OSError] = []
    for current, folders, files in os.walk(root, onerror=closed.append):
        yield from _closed(closed)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in folders:
            if Path(current, name).is_symlink():
                yield Path(current, name), "the folder is a link, which is not followed"
        for name in sorted(files):
            path = Path(current, name)
            yield path, _reason(path, root)
    yield from _closed(closed)


def _closed(errors: list[OSError]) -> Iterator[tuple[Path, str]]:
    """The folders that could not be opened, once."""
    while errors:
        yield Path(os.fsdecode(errors.pop(0).filename)), "the folder must not be opened by this user"


def _reason(path: Path, root: Path) -> str:
    if path.name.startswith("."):
        return _PASSED_OVER
    if path.name.upper() == "DICOMDIR":
        return "the file is a DICOMDIR, an index of other files"
    if leads_out(path, root):
        return "the file is a link that leads out of the folder"
    return _PASSED_OVER if path.suffix.lower() in _OTHER_SUFFIXES and not _is_image(path) else ""


def _is_image(path: Path) -> bool:
    try:
        return has_image_mark(path)
    except OSError:
        return False


def _sections(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str | None, list[dict[str, Any]]]]:
    """The sections of a list, with their items; None for items that no section names."""
    names = split_names(source) if isinstance(source, (str, os.PathLike)) else []
    for name in sorted(names, key=lambda name: (_SPLIT_ORDER.index(name) if name in _SPLIT_ORDER else 9, name)):
        yield name, load_datalist(source, name, check_files=False)
    if not names:
        yield None, load_datalist(source, check_files=False)
    elif Path(str(source)).suffix.lower() != ".json":
        try:
            yield None, load_datalist(source, "", check_files=False)
        except DatalistError:
            return  # no row of the table is without a split


def _numbers_only(value: Any) -> Any:
    """A label that is a number or a list of numbers; text may hold anything and is left behind."""
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
