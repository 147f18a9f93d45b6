"""Final files of a prepared folder: near duplicates, splits by patient, index, lists, contact sheet and summary.

All of them are made from the journal. More files can therefore be added to a folder, or its splits drawn again.
"""

from __future__ import annotations

import csv
import io
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.splits import split_by_patient
from monai_anat.data.preparation.checksums import write_checksums
from monai_anat.data.preparation.contact_sheet import draw_contact_sheet
from monai_anat.data.preparation.duplicates import join_groups, near_duplicates
from monai_anat.data.preparation.journal import ShardWriter, write_index
from monai_anat.data.reading.shards import INDEX_FILE, open_index, shard_view
from monai_anat.files import replace_file, write_bytes_atomically, write_text_atomically
from monai_anat.keys import IMAGE, LABEL

__all__ = [
    "PrepareSummary",
    "finish_folder",
]

logger = logging.getLogger(__name__)
_SHEET_IMAGES = 100
_MANY_OF_ONE_PATIENT = 20


@dataclass(frozen=True)
class PrepareSummary:
    """Summary of a preparation, also written as ``summary.json``.

    Attributes:
        found: number of files that were read or set aside.
        written: number of images.
        rejected: number of files set aside.
        reasons: reason -> number of files set aside.
        near_duplicates: number of pairs of near duplicates.
        patients: number of patient groups.
        without_patient: number of images without a known patient.
        grown: number of images that were enlarged.
        kinds: kind of file -> number of images.
        views: view -> number of images.
        splits: split -> number of images.
        size: short side of the images in pixels.
        seconds: duration of this run.
        per_second: files per second of this run.
        notes: further sentences for the user.
    """

    found: int
    written: int
    rejected: int
    reasons: dict[str, int]
    near_duplicates: int
    patients: int
    without_patient: int
    grown: int
    kinds: dict[str, int]
    views: dict[str, int]
    splits: dict[str, int]
    size: int
    seconds: float
    per_second: float
    notes: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the summary as lines of text."""
        lines = [
            f"{self.found} files: {self.written} images of {self.patients} patients taken, {self.rejected} set aside",
            *(f"  {count} x {reason}" for reason, count in self.reasons.items()),
            f"kinds {self.kinds}, views {self.views}, splits {self.splits}",
            f"{self.near_duplicates} pairs of near duplicates, each kept in one split",
            f"{self.seconds:.1f} s, {self.per_second:.1f} files per second",
            *self.notes,
        ]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What is kept in memory of an image that was taken; a million of them must fit."""

    position: int
    group: str
    split: str
    kind: str
    view: str
    label: Any
    patient_known: bool
    grown: bool


def _read_journal(writer: ShardWriter) -> tuple[list[_Taken], list[list[Any]]]:
    """Return the images that were taken, and the rows of rejected.csv by position."""
    taken: list[_Taken] = []
    aside: list[list[Any]] = []
    for line in writer.lines():
        if "reason" in line:
            aside.append([line["position"], line["source"], intern(line["reason"])])
            continue
        words: dict[str, Any] = {name: intern(line[name]) for name in ("split", "kind", "view")}
        rest = {name: line[name] for name in ("position", "group", "label", "patient_known", "grown")}
        taken.append(_Taken(**words, **rest))
    aside.sort(key=lambda row: int(row[0]))
    return taken, aside


def finish_folder(
    writer: ShardWriter,
    settings: Mapping[str, Any],
    splits: Mapping[str, float] | None,
    stratify: str | None,
    seed: int,
    *,
    total: int,
    started: float,
    notes: Sequence[str] = (),
) -> PrepareSummary:
    """Write duplicates, splits, index, lists, contact sheet, summary and checksums from the journal.

    Args:
        writer: closed writer of the folder.
        settings: ``size`` and ``view`` of the preparation.
        splits: split -> share of the patients; None for the source's own splits.
        stratify: ``view``, ``kind`` or ``label``, or None.
        seed: random seed of the splits.
        total: number of files that were read or set aside.
        started: start of the preparation, from ``time.monotonic``.
        notes: lines for the end of the summary.

    Returns:
        The summary.

    Raises:
        DatalistError: if no image was taken.
    """
    taken, aside = _read_journal(writer)
    _write_table(writer.folder / "rejected.csv", ["position", "source_hash", "reason"], aside)
    reasons = Counter(row[2].split(" at position")[0] for row in aside)
    if not taken:
        told = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common(5))
        raise DatalistError(f"none of the {total} files could be used ({told}); rejected.csv has each file's reason")
    pairs = sorted(near_duplicates(writer.thumbnails()))
    _write_table(
        writer.folder / "duplicates.csv",
        ["position", "copy_position", "correlation"],
        [[taken[i].position, taken[j].position, f"{alike:.4f}"] for i, j, alike in pairs],
    )
    groups = join_groups([image.group for image in taken], pairs)
    names = _split_names(taken, groups, splits, stratify, seed)
    write_index(writer, groups, names)
    with replace_file(writer.folder / "thumbnails.npy") as temporary, temporary.open("wb") as handle:
        np.save(handle, writer.thumbnails())
    _write_datalist(writer.folder / "datalist.json", taken, groups, names)
    _write_sheet(writer.folder)
    seconds = time.monotonic() - started
    summary = PrepareSummary(
        found=total,
        written=len(taken),
        rejected=len(aside),
        reasons=dict(reasons.most_common()),
        near_duplicates=len(pairs),
        patients=len(set(groups)),
        without_patient=sum(not image.patient_known for image in taken),
        grown=sum(image.grown for image in taken),
        kinds=dict(Counter(image.kind for image in taken)),
        views=dict(Counter(image.view or "unknown" for image in taken)),
        splits=dict(Counter(names)),
        size=settings["size"],
        seconds=round(seconds, 2),
        per_second=round(total / max(seconds, 1e-9), 2),
        notes=[*notes, *_notes(taken, settings["size"], settings["view"])],
    )
    write_text_atomically(writer.folder / "summary.json", json.dumps(asdict(summary), indent=1))
    write_checksums(writer.folder)
    logger.debug("%s", summary.text())
    return summary


def _write_datalist(path: Path, taken: Sequence[_Taken], groups: Sequence[str], names: Sequence[str]) -> None:
    """Write MONAI's datalist with one item per line."""
    with replace_file(path) as temporary, temporary.open("w") as handle:
        handle.write("{")
        for number, split in enumerate(dict.fromkeys(names)):
            handle.write(f"{',' if number else ''}\n {json.dumps(split)}: [")
            comma = ""
            for row in (row for row, name in enumerate(names) if name == split):
                item = {IMAGE: f"{INDEX_FILE}#{row}", "patient": groups[row]}
                label = taken[row].label
                entry = json.dumps(item if label is None else {**item, LABEL: label})
                handle.write(f"{comma}\n  {entry}")
                comma = ","
            handle.write("\n ]")
        handle.write("\n}\n")


def _notes(taken: Sequence[_Taken], size: int, view: str) -> list[str]:
    notes = []
    unsaid = sum(not image.view for image in taken)
    if unsaid and view != "any":
        notes.append(
            f"{unsaid} of {len(taken)} images have no view in their header or list and count as {view}: check "
            "contact_sheet.png for others, or give a list with a column view"
        )
    unknown = sum(not image.patient_known for image in taken)
    if unknown:
        notes.append(
            f"{unknown} images name no patient and count as one patient each; "
            "give patient_pattern if file names hold the patient, or a list with a column patient"
        )
    most = max(Counter(image.group for image in taken if image.patient_known).values(), default=0)
    if most >= _MANY_OF_ONE_PATIENT and most > len(taken) / 2:
        notes.append(
            f"{most} of {len(taken)} images name one and the same patient and stay in one split; if an anonymizer "
            "wrote that name, give patient_pattern or a list with a column patient"
        )
    grown = sum(image.grown for image in taken)
    if grown:
        notes.append(f"{grown} images are smaller than size={size} and were enlarged, which adds no detail")
    return notes


def _split_names(
    taken: Sequence[_Taken],
    groups: Sequence[str],
    splits: Mapping[str, float] | None,
    stratify: str | None,
    seed: int,
) -> list[str]:
    """Return the split of each image: drawn by patient, or the source's own by each patient's first image."""
    if splits is None:
        home: dict[str, str] = {}
        for image, group in zip(taken, groups, strict=True):
            home.setdefault(group, image.split or "training")
        return [home[group] for group in groups]
    entries = [
        {"number": n, "patient": group, "stratum": getattr(image, stratify) if stratify else None}
        for n, (image, group) in enumerate(zip(taken, groups, strict=True))
    ]
    names = [""] * len(taken)
    for name, members in split_by_patient(entries, splits, seed, "stratum" if stratify else None).items():
        for member in members:
            names[member["number"]] = name
    return names


def _write_table(path: Path, header: list[str], rows: list[list[Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_text_atomically(path, text.getvalue())


def _write_sheet(folder: Path) -> None:
    count = len(open_index(folder))
    rows = np.unique(np.linspace(0, count - 1, min(count, _SHEET_IMAGES)).round().astype(int)).tolist()
    sheet = draw_contact_sheet((str(row), shard_view(folder, row)) for row in rows)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_bytes_atomically(folder / "contact_sheet.png", buffer.getvalue())
