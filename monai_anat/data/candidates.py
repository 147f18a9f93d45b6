"""What ``prepare`` looks at: every file of a folder that may be an image, or every item of a list, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..keys import IMAGE, LABEL
from .datalists import DatalistError, load_datalist, patient_from_name

__all__ = [
    "Candidate",
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
_SPLIT_NAMES = ("training", "validation", "test")


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
    extra: dict[str, Any] = field(default_factory=dict)


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
        yield from _walk(Path(source).resolve(), patient_pattern)
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


def _walk(root: Path, patient_pattern: str | None) -> Iterator[Candidate]:
    for current, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = Path(current) / name
            if name.startswith(".") or path.suffix.lower() in _OTHER_SUFFIXES:
                continue
            if name.upper() == "DICOMDIR":
                yield Candidate(str(path), reason="the file is a DICOMDIR, an index of other files")
            elif path.is_symlink() and not path.resolve().is_relative_to(root):
                yield Candidate(str(path), reason="the file is a link that leads out of the folder")
            else:
                yield Candidate(str(path), patient=patient_from_name(str(path.relative_to(root)), patient_pattern))


def _sections(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
) -> Iterator[tuple[str | None, list[dict[str, Any]]]]:
    """The sections of a list that are there, with their items."""
    if not isinstance(source, (str, os.PathLike)):
        yield None, load_datalist(source, check_files=False)
        return
    found = False
    for split in _SPLIT_NAMES:
        try:
            items = load_datalist(source, split, check_files=False)
        except DatalistError:
            continue
        found = True
        yield split, items
        if Path(source).suffix.lower() == ".json" and Path(source).read_text().lstrip().startswith("["):
            return  # a bare list has no sections
        if Path(source).suffix.lower() != ".json" and all("split" not in item for item in items):
            return
    if not found:
        load_datalist(source, _SPLIT_NAMES[0], check_files=False)  # raises the sentence that fits


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
