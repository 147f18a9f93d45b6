"""From a disk of files to a training set: decoded once, judged, brought to size, divided by patient, without a name.

The prepared folder holds ``shard-*.npy``, ``index.npy``, ``datalist.json``, ``rejected.csv`` (position in the source,
and the reason), ``duplicates.csv``, ``contact_sheet.png`` and ``summary.json``. Patients are keyed hashes, files are
positions in the source.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.splits import split_by_patient
from monai_anat.data.preparation.candidates import Candidate, count_source, iterate_candidates
from monai_anat.data.preparation.identity import load_key
from monai_anat.data.preparation.journal import ShardWriter
from monai_anat.data.preparation.prepare_one import Outcome, prepare_file, source_hash
from monai_anat.data.preparation.prepared_folder import PrepareSummary, finish_folder
from monai_anat.data.reading.shards import check_split_names

__all__ = [
    "PrepareProgress",
    "iterate_preparation",
    "prepare_radiographs",
]

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
        patient_pattern: rule that finds the patient in a file's path; a list's patient goes before it, DICOM's after.
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
        summary = finish_folder(writer, settings, splits, stratify, seed, total=total, started=started, notes=notes)
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


def _source_notes(total: int, writer: ShardWriter, passed_over: Mapping[str, int]) -> list[str]:
    notes = []
    if passed_over:
        told = ", ".join(f"{count} x {ending}" for ending, count in sorted(passed_over.items()))
        notes.append(f"files that are no images by their names were passed over: {told}")
    repeated = total - writer.written - writer.rejected
    if repeated > 0:
        notes.append(f"{repeated} entries of the source name a file that another entry names")
    return notes
