"""Preparation of a disk of radiographs as a training set.

Every file is decoded once, judged, resized, divided by patient and stored without a name. The prepared folder holds
``shard-*.npy``, ``index.npy``, ``datalist.json``, ``rejected.csv`` (position in the source and reason),
``duplicates.csv``, ``contact_sheet.png``, ``summary.json`` and ``checksums.json``. Patients are keyed hashes, files are
positions in the source. Text that is burned into the pixels stays there: check the contact sheet.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_anat.data.items import DatalistError
from monai_anat.data.lists.datalists import Outside
from monai_anat.data.lists.folder_names import compile_patient_pattern
from monai_anat.data.lists.splits import split_by_patient
from monai_anat.data.preparation.candidates import Source, count_passed_over, iterate_candidates
from monai_anat.data.preparation.disk_space import explain_full_disk
from monai_anat.data.preparation.identity import keyed_hash, load_key
from monai_anat.data.preparation.journal import ShardWriter, check_folder, taken_before
from monai_anat.data.preparation.prepare_one import Outcome, Task, prepare_file, source_hash
from monai_anat.data.preparation.prepared_folder import PrepareSummary, finish_folder
from monai_anat.data.preparation.workers import run_in_processes
from monai_anat.data.reading.shards import check_split_names
from monai_anat.files import FolderLock

__all__ = [
    "PrepareProgress",
    "prepare_radiographs",
]


@dataclass(frozen=True)
class PrepareProgress:
    """Progress of a preparation.

    Attributes:
        done: number of files that are done, those of earlier runs included.
        total: number of files.
        written: number of images taken.
        rejected: number of files set aside.
        rate: files per second of this run.
        seconds_left: expected seconds until the end, or None at the start.
    """

    done: int
    total: int
    written: int
    rejected: int
    rate: float
    seconds_left: float | None


@dataclass(frozen=True)
class _Job:
    """Checked arguments of a preparation."""

    source: Source
    folder: Path
    size: int
    view: str
    patient_pattern: str | None
    key: bytes
    workers: int
    time_limit: float
    outside: Outside

    def settings(self) -> dict[str, Any]:
        """Return what must agree between the runs on one folder; what may point to a person is hashed."""
        named = isinstance(self.source, (str, os.PathLike))
        source = str(Path(str(self.source)).expanduser().resolve()) if named else "items"
        return {
            "size": self.size,
            "view": self.view,
            "patient_pattern_hash": keyed_hash(self.key, self.patient_pattern or ""),
            "key_file_hash": keyed_hash(self.key, "key"),
            "source_hash": keyed_hash(self.key, source),
        }

    def tasks(self) -> Iterator[Task]:
        """Yield the task of each candidate in order."""
        for position, candidate in enumerate(iterate_candidates(self.source, self.patient_pattern, self.outside)):
            yield Task(position, candidate, source_hash(candidate, self.key), self.key, self.size, self.view)


def prepare_radiographs(
    source: Source,
    out: str | os.PathLike[str],
    *,
    size: int = 608,
    view: str = "frontal",
    splits: Mapping[str, float] | None = None,
    stratify: str | None = None,
    seed: int = 0,
    patient_pattern: str | None = None,
    key_file: str | os.PathLike[str] | None = None,
    workers: int = 1,
    time_limit: float = 60.0,
    shard_bytes: int = 1 << 30,
    outside: Outside = "absolute",
    on_progress: Callable[[PrepareProgress], None] | None = None,
) -> PrepareSummary:
    """Prepare a folder or list of radiographs for training; a run that was stopped is continued.

    A later run continues only with the same source, key and settings, and only while the files that were taken are
    unchanged. More files may have been added, and ``splits``, ``stratify`` and ``seed`` may differ.

    Args:
        source: folder (every file in it is read), datalist, or list of items.
        out: folder to write: new, empty, or begun by an earlier run.
        size: short side of the prepared images in pixels.
        view: ``frontal`` or ``lateral`` sets aside other views, modalities and body parts, and unknown views in a list;
            ``any`` takes all.
        splits: split -> share of the patients; by default the splits of the list or of sub-folders such as ``test``,
            and ``training`` for everything else.
        stratify: ``view``, ``kind`` or ``label``: spread its values evenly over the splits.
        seed: random seed of the splits.
        patient_pattern: regular expression that finds the patient in a file's path. The patient of a list takes
            precedence over it, and it takes precedence over DICOM's.
        key_file: file with the key of the patient hashes, outside ``out``; see ``load_key``.
        workers: number of processes. With 0, this process decodes and ``time_limit`` has no effect; a file that ended
            an earlier run is tried in a process of its own.
        time_limit: seconds that decoding one file may take before the file is set aside.
        shard_bytes: size of a full shard.
        outside: paths outside its folder that a list may name; see ``load_datalist``.
        on_progress: called after every file.

    Returns:
        The summary.

    Raises:
        ValueError: if an argument is out of range.
        DatalistError: if nothing can be used, ``out`` was begun otherwise, or the disk is full.
        FolderInUseError: if another process prepares into ``out``.
    """
    started = time.monotonic()
    folder = Path(out).expanduser()
    _check_arguments(size, view, splits, stratify, workers, time_limit, folder, key_file)
    compile_patient_pattern(patient_pattern)
    key = load_key(key_file)
    job = _Job(source, folder, size, view, patient_pattern, key, workers, time_limit, outside)
    check_folder(folder, job.settings())
    total = _check_source(job, splits)
    with explain_full_disk(folder), FolderLock(folder, "preparation"):
        check_folder(folder, job.settings())
        writer: ShardWriter | None = None
        try:
            writer = ShardWriter(folder, job.settings(), shard_bytes)
            _write_images(job, writer, total, started, on_progress)
            writer.close()
            notes = _source_notes(total, writer, count_passed_over(source))
            settings = {"size": size, "view": view}
            return finish_folder(writer, settings, splits, stratify, seed, total=total, started=started, notes=notes)
        finally:
            if writer is not None:
                writer.abandon()


def _check_arguments(
    size: int,
    view: str,
    splits: Mapping[str, float] | None,
    stratify: str | None,
    workers: int,
    time_limit: float,
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
    if not time_limit > 0:
        raise ValueError(f"time_limit must be more than 0 seconds, got {time_limit}")
    if splits is not None:
        split_by_patient([], splits, 0)
        check_split_names(splits)
    if key_file is not None and Path(key_file).expanduser().resolve().is_relative_to(folder.resolve()):
        raise DatalistError("key_file must lie outside out: whoever gets the prepared folder must not get the key")


def _check_source(job: _Job, splits: Mapping[str, float] | None) -> int:
    """Count the candidates, and refuse a source without one or from which files of an earlier run are gone."""
    lost = taken_before(job.folder)
    total = 0
    for task in job.tasks():
        total += 1
        lost.discard(task.source)
        if splits is None:
            check_split_names([task.candidate.split])
    if total == 0:
        raise DatalistError(f"source must hold at least one file that may be an image, got none in {job.source!r}")
    if lost:
        raise DatalistError(
            f"{len(lost)} images of out={str(job.folder)!r} come from files that are gone or changed since, in content "
            "or in the list; name a new folder"
        )
    return total


def _write_images(
    job: _Job,
    writer: ShardWriter,
    total: int,
    started: float,
    on_progress: Callable[[PrepareProgress], None] | None,
) -> None:
    earlier = len(writer.done)
    for done, outcome in enumerate(_outcomes(job, writer), start=1):
        if outcome is not None:
            writer.add(outcome)
        if on_progress is not None:
            fresh = max(len(writer.done) - earlier, 0)
            rate = fresh / max(time.monotonic() - started, 1e-9)
            left = (total - done) / rate if fresh else None
            on_progress(PrepareProgress(done, total, writer.written, writer.rejected, rate, left))


def _outcomes(job: _Job, writer: ShardWriter) -> Iterator[Outcome | None]:
    """Yield the outcome of each candidate in order; None for one that is done."""

    def fresh() -> Iterator[Task | None]:
        begun = set(writer.done)  # a list may name a file twice, and the second may come before the first is done
        for task in job.tasks():
            yield None if task.source in begun else task
            begun.add(task.source)

    if job.workers:
        yield from run_in_processes(prepare_file, fresh(), job.workers, job.time_limit, _failed)
        return
    for task in fresh():
        if task is None:
            yield None
        elif task.source == writer.suspect:
            yield from run_in_processes(prepare_file, iter([task]), 1, job.time_limit, _failed)
        else:
            writer.begin(task.source)
            yield prepare_file(task)


def _failed(task: Task, reason: str) -> Outcome:
    return Outcome(task.position, task.source, reason)


def _source_notes(total: int, writer: ShardWriter, passed_over: Counter[str]) -> list[str]:
    notes = []
    if passed_over:
        told = ", ".join(f"{count} x {ending}" for ending, count in sorted(passed_over.items()))
        notes.append(f"files that are no images by their names were passed over: {told}")
    repeated = total - writer.written - writer.rejected
    if repeated > 0:
        notes.append(f"{repeated} entries of the source name a file that another entry names")
    return notes
