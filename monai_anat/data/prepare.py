"""From a disk of files to a training set: decoded once, judged, brought to size, divided by patient, without a name.

The prepared folder holds ``shard-*.npy``, ``index.npy``, ``datalist.json``, ``rejected.csv`` (position in the source,
and the reason), ``duplicates.csv``, ``contact_sheet.png`` and ``summary.json``. Patients are keyed hashes, files are
positions in the source.
"""

from __future__ import annotations

import csv
import errno
import io
import json
import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from sys import intern
from typing import Any

import numpy as np

from ..keys import IMAGE, LABEL
from .candidates import Candidate, count_source, iterate_candidates
from .contact_sheet import draw_contact_sheet
from .datalists import DatalistError
from .duplicates import join_groups, near_duplicates
from .identity import load_key
from .journal import ShardWriter, write_index, write_whole
from .prepare_one import Outcome, prepare_file, source_hash
from .shards import INDEX_FILE, check_split_names, open_index, shard_view
from .splits import split_by_patient

__all__ = [
    "PrepareProgress",
    "PrepareSummary",
    "iterate_preparation",
    "prepare_radiographs",
]

logger = logging.getLogger(__name__)
_SHEET_IMAGES = 100
_CRASH = "decoding the file ended the process"
Task = tuple[int, Candidate, str, bytes, int, str]


@dataclass(frozen=True)
class PrepareProgress:
    """Where a preparation is.

    Attributes:
        done: files looked at, those of earlier runs included.
        total: files in all.
        written: images taken.
        rejected: files set aside.
        rate: files per second of this run.
        seconds_left: expected, or None at the start.
    """

    done: int
    total: int
    written: int
    rejected: int
    rate: float
    seconds_left: float | None


@dataclass(frozen=True)
class PrepareSummary:
    """What came of a preparation; also written as ``summary.json``."""

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
        """Return the summary in lines for a person."""
        lines = [
            f"{self.found} files: {self.written} images of {self.patients} patients taken, {self.rejected} set aside",
            *(f"  {count} x {reason}" for reason, count in self.reasons.items()),
            f"kinds {self.kinds}, views {self.views}, splits {self.splits}",
            f"{self.near_duplicates} pairs of near duplicates, each kept in one split",
            f"{self.seconds:.1f} s, {self.per_second:.1f} files per second",
            *self.notes,
        ]
        return "\n".join(lines)


def prepare_radiographs(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    out: str | os.PathLike[str],
    *,
    size: int = 608,
    view: str = "frontal",
    splits: Mapping[str, float] | None = None,
    stratify: str | None = None,
    seed: int = 0,
    patient_pattern: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    workers: int = 0,
    shard_bytes: int = 1 << 30,
    on_progress: Callable[[PrepareProgress], None] | None = None,
) -> PrepareSummary:
    """Prepare a folder or list of radiographs for training; see ``iterate_preparation`` for the arguments.

    Returns:
        The summary.

    Raises:
        DatalistError: nothing could be used, arguments do not fit, or the disk is full.
    """
    steps = iterate_preparation(
        source,
        out,
        size=size,
        view=view,
        splits=splits,
        stratify=stratify,
        seed=seed,
        patient_pattern=patient_pattern,
        key_file=key_file,
        workers=workers,
        shard_bytes=shard_bytes,
    )
    while True:
        try:
            progress = next(steps)
        except StopIteration as stop:
            summary: PrepareSummary = stop.value
            return summary
        if on_progress is not None:
            on_progress(progress)


def iterate_preparation(
    source: str | os.PathLike[str] | Sequence[Mapping[str, Any]],
    out: str | os.PathLike[str],
    *,
    size: int = 608,
    view: str = "frontal",
    splits: Mapping[str, float] | None = None,
    stratify: str | None = None,
    seed: int = 0,
    patient_pattern: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    workers: int = 0,
    shard_bytes: int = 1 << 30,
) -> Generator[PrepareProgress, None, PrepareSummary]:
    """Prepare a folder or list of radiographs, yielding progress; a run that was stopped goes on where it was.

    Args:
        source: a folder (every file in it is looked at), a datalist, or a list of items.
        out: the folder to write; new, empty, or begun by an earlier run with the same arguments.
        size: the short side of the prepared images, in pixels.
        view: ``frontal`` or ``lateral`` sets other views, other modalities and body parts aside; ``any`` takes all.
        splits: split -> share of the patients; by default the source's own splits, or everything for training.
        stratify: ``view``, ``kind`` or ``label``: spread its values evenly over the splits.
        seed: of the split.
        patient_pattern: rule that finds the patient in a file's path, where neither list nor DICOM names one.
        key_file: where the key of the patient hashes is kept; see ``load_key``. Never inside ``out``.
        workers: processes; 0 works in this one.
        shard_bytes: size of a full shard.

    Yields:
        Progress, once per file.

    Returns:
        (as the generator's value) the summary.

    Raises:
        DatalistError: nothing could be used, arguments do not fit, or the disk is full.
    """
    started = time.monotonic()
    folder = Path(out)
    _check_arguments(size, view, splits, stratify, workers, folder, key_file)
    key = load_key(key_file)
    total, passed_over = count_source(source)
    if total == 0:
        raise DatalistError(f"source must hold at least one file that may be an image, got none in {source!r}")
    if splits is not None:
        check_split_names(splits)
    elif not (isinstance(source, (str, os.PathLike)) and Path(source).is_dir()):
        check_split_names(candidate.split for candidate in iterate_candidates(source))
    settings = {"size": size, "view": view, "patient_pattern": patient_pattern}
    writer: ShardWriter | None = None
    try:
        writer = ShardWriter(folder, settings, shard_bytes)
        earlier = len(writer.done)
        done = 0
        for done, outcome in enumerate(_outcomes(source, patient_pattern, key, size, view, workers, writer), start=1):
            if outcome is not None:
                writer.add(outcome)
            fresh = max(len(writer.done) - earlier, 0)
            rate = fresh / max(time.monotonic() - started, 1e-9)
            left = (total - done) / rate if fresh else None
            yield PrepareProgress(done, total, writer.written, writer.rejected, rate, left)
        writer.close()
        notes = _source_notes(total, writer, passed_over)
        summary = _finish(writer, total, started, settings, splits, stratify, seed, notes)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DatalistError(
            f"the disk of out={str(folder)!r} is full; free some space and give the same command again: "
            "it goes on where it stopped"
        ) from error
    finally:
        if writer is not None:
            writer.abandon()
    return summary


def _check_arguments(
    size: int,
    view: str,
    splits: Mapping[str, float] | None,
    stratify: str | None,
    workers: int,
    folder: Path,
    key_file: str | os.PathLike[str] | None,
) -> None:
    if not 32 <= size <= 8192:
        raise ValueError(f"size must be between 32 and 8192 pixels, got {size}")
    if view not in ("frontal", "lateral", "any"):
        raise ValueError(f"view must be 'frontal', 'lateral' or 'any', got {view!r}")
    if stratify not in (None, "view", "kind", "label"):
        raise ValueError(f"stratify must be 'view', 'kind' or 'label', got {stratify!r}")
    if workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    if splits is not None:
        split_by_patient([], splits, 0)
    if key_file is not None and Path(key_file).resolve().is_relative_to(folder.resolve()):
        raise DatalistError("key_file must lie outside out: whoever gets the prepared folder must not get the key")


def _outcomes(
    source: Any, patient_pattern: str | None, key: bytes, size: int, view: str, workers: int, writer: ShardWriter
) -> Iterator[Outcome | None]:
    """Outcome of each candidate in order; None for one that an earlier run has done."""

    def tasks() -> Iterator[Task | None]:
        for position, candidate in enumerate(iterate_candidates(source, patient_pattern)):
            name = source_hash(candidate.path, key)
            if name in writer.done:
                yield None
            else:
                writer.done.add(name)  # a list may name a file twice, and the next may be asked for before this is done
                yield position, candidate, name, key, size, view

    if workers == 0:
        for task in tasks():
            yield None if task is None else prepare_file(*task)
        return
    yield from _in_processes(tasks(), workers)


def _in_processes(tasks: Iterator[Task | None], workers: int) -> Iterator[Outcome | None]:
    """Run tasks in processes, in order, a bounded number at a time; a file that kills its process is found."""
    pool = ProcessPoolExecutor(workers)
    try:
        while window := list(islice(tasks, 8 * workers)):
            futures: list[Future[Outcome] | None] = [
                None if task is None else pool.submit(prepare_file, *task) for task in window
            ]
            for task, future in zip(window, futures, strict=True):
                try:
                    yield None if future is None else future.result()
                except BrokenProcessPool:
                    pool.shutdown(wait=False)
                    pool = ProcessPoolExecutor(workers)
                    if task is not None:
                        yield _alone(task)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _alone(task: Task) -> Outcome:
    """Run one task in a process of its own, which it may take down."""
    with ProcessPoolExecutor(1) as pool:
        try:
            return pool.submit(prepare_file, *task).result()
        except BrokenProcessPool:
            return Outcome(task[0], task[2], _CRASH)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What is remembered of an image that was taken: a million of them must fit into memory."""

    position: int
    group: str
    split: str
    kind: str
    view: str
    label: Any
    patient_known: bool
    grown: bool


def _read_journal(writer: ShardWriter) -> tuple[list[_Taken], list[list[Any]]]:
    """The images that were taken, and the rows of rejected.csv by position."""
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


def _finish(
    writer: ShardWriter,
    total: int,
    started: float,
    settings: Mapping[str, Any],
    splits: Mapping[str, float] | None,
    stratify: str | None,
    seed: int,
    notes: list[str],
) -> PrepareSummary:
    """Duplicates, splits, index, lists, sheet and summary, from the journal."""
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
    np.save(writer.folder / "thumbnails.npy", writer.thumbnails())
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
        notes=notes + _notes(taken, settings["size"], settings["view"]),
    )
    write_whole(writer.folder / "summary.json", json.dumps(asdict(summary), indent=1).encode())
    logger.debug("%s", summary.text())
    return summary


def _write_datalist(path: Path, taken: Sequence[_Taken], groups: Sequence[str], names: Sequence[str]) -> None:
    """MONAI's datalist, an item per line."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w") as handle:
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
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def _source_notes(total: int, writer: ShardWriter, passed_over: Mapping[str, int]) -> list[str]:
    notes = []
    if passed_over:
        told = ", ".join(f"{count} x {ending}" for ending, count in sorted(passed_over.items()))
        notes.append(f"files that are no images by their names were passed over: {told}")
    repeated = total - writer.written - writer.rejected
    if repeated > 0:
        notes.append(f"{repeated} entries of the source name a file that another entry names")
    return notes


def _notes(taken: Sequence[_Taken], size: int, view: str) -> list[str]:
    notes = []
    unsaid = sum(not image.view for image in taken)
    if unsaid and view != "any":
        notes.append(
            f"{unsaid} of {len(taken)} images do not say their view and count as {view}: look at contact_sheet.png for "
            "others, or give a list with a column view"
        )
    unknown = sum(not image.patient_known for image in taken)
    if unknown:
        notes.append(
            f"{unknown} images name no patient and count as a patient each; "
            "give patient_pattern or a column if file names tell"
        )
    grown = sum(image.grown for image in taken)
    if grown:
        notes.append(f"{grown} images were smaller than size={size} and were grown, which adds no detail")
    return notes


def _split_names(
    taken: Sequence[_Taken],
    groups: Sequence[str],
    splits: Mapping[str, float] | None,
    stratify: str | None,
    seed: int,
) -> list[str]:
    """The split of each image: drawn by patient, or the source's own, in which a patient's first image decides."""
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
    write_whole(path, text.getvalue().encode())


def _write_sheet(folder: Path) -> None:
    count = len(open_index(folder))
    rows = np.unique(np.linspace(0, count - 1, min(count, _SHEET_IMAGES)).round().astype(int)).tolist()
    sheet = draw_contact_sheet((str(row), shard_view(folder, row)) for row in rows)
    buffer = io.BytesIO()
    sheet.save(buffer, format="PNG")
    write_whole(folder / "contact_sheet.png", buffer.getvalue())
