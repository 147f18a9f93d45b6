"""Shards of a preparation, and the journal of the bytes that count.

A line of the journal is written after the bytes that it describes. A later run reads the journal, cuts the shards back
to what it describes, and goes on, so that an image is never decoded twice and never stored in part.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.items import DatalistError
from monai_anat.data.preparation.checksums import HEADER_BYTES, npy_header
from monai_anat.data.preparation.prepare_one import Outcome
from monai_anat.data.preparation.thumbnails import THUMBNAIL
from monai_anat.data.reading.shards import INDEX_DTYPE, INDEX_FILE, shard_name
from monai_anat.files import LOCK_NAME, replace_file, write_bytes_atomically, write_text_atomically

__all__ = [
    "ShardWriter",
    "check_folder",
    "taken_before",
    "write_index",
]

WORK_FOLDER = ".prepare"
_JOURNAL, _THUMBNAILS, _CURRENT = "journal.jsonl", "thumbnails.u8", "current"
_FLUSH_EVERY = 32
_TILE = THUMBNAIL * THUMBNAIL


def check_folder(folder: Path, settings: dict[str, Any]) -> None:
    """Refuse an output folder that a preparation cannot begin or continue; nothing is written.

    Args:
        folder: output folder.
        settings: arguments that decide what is prepared. The values of those that could point to a person are hashes.

    Raises:
        DatalistError: if the folder holds something else, or was begun with other settings.
    """
    work = folder / WORK_FOLDER
    if folder.exists() and not folder.is_dir():
        raise DatalistError(f"out must be a folder, got the file {str(folder)!r}")
    others = [path for path in folder.iterdir() if not path.name.startswith(LOCK_NAME)] if folder.is_dir() else []
    if others and not work.is_dir():
        raise DatalistError(f"out must be a new or empty folder, or one that `prepare` began, got {str(folder)!r}")
    if not (work / "settings.json").is_file():
        return
    try:
        before = dict(json.loads((work / "settings.json").read_text()))
    except (ValueError, TypeError):
        raise DatalistError(f"{work / 'settings.json'} is damaged; name a new folder") from None
    differing = [name for name in settings if before.get(name) != settings[name]]
    if "key_file_hash" in differing:
        differing = ["key_file_hash"]  # another key changes the other hashes, too
    if differing:
        told = ", ".join(
            f"another {name}" if name.endswith("_hash") else f"{name}={before.get(name)!r} then, {settings[name]!r} now"
            for name in differing
        )
        raise DatalistError(
            f"out was begun with other arguments ({told.replace('_hash', '')}); name a new folder, or use the same "
            "arguments"
        )


def taken_before(folder: Path) -> set[str]:
    """Return the sources of the images that earlier runs stored in a folder.

    Args:
        folder: output folder.

    Raises:
        DatalistError: if the journal is damaged.
    """
    return {line["source"] for line in _journal_lines(folder) if "reason" not in line}


class ShardWriter:
    """Append images to shards and keep a journal, in a folder that may hold the work of an earlier run.

    Args:
        folder: output folder, checked by :func:`check_folder`.
        settings: as for :func:`check_folder`.
        shard_bytes: size of a full shard.

    Attributes:
        done: sources that have an outcome.
        suspect: source that an earlier run was reading when it ended, or None: its decoder may have ended the run.
        written: number of images stored.
        rejected: number of files set aside.

    Raises:
        DatalistError: if the journal or a shard is damaged.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], shard_bytes: int) -> None:
        self.folder, self.work, self.shard_bytes = folder, folder / WORK_FOLDER, shard_bytes
        self.work.mkdir(parents=True, exist_ok=True)
        if not (self.work / "settings.json").is_file():
            write_text_atomically(self.work / "settings.json", json.dumps(settings))
        self.done: set[str] = set()
        self.hashes: dict[str, int] = {}
        self.written = self.rejected = 0
        self._shard, self._offset = 0, 0
        self._recover()
        current = self.work / _CURRENT
        self.suspect = current.read_text() if current.is_file() else None
        self._data: BinaryIO = self._open_shard()
        self._journal: BinaryIO = (self.work / _JOURNAL).open("ab")
        self._thumbnails: BinaryIO = (self.work / _THUMBNAILS).open("ab")
        self._pending: list[str] = []
        self._current: FileIO | None = None

    def begin(self, source: str) -> None:
        """Note which file this process reads, so that a later run knows which one ended it.

        Args:
            source: its keyed hash.
        """
        if self._current is None:
            self._current = (self.work / _CURRENT).open("wb", buffering=0)
        self._current.seek(0)  # sources have one length; opening the file anew for each takes longer than reading one
        self._current.write(source.encode())

    def add(self, outcome: Outcome) -> None:
        """Write one outcome; an image whose pixels are stored already is set aside.

        Args:
            outcome: result of a candidate.
        """
        record, pixels = outcome.record, outcome.pixels
        if record is not None and pixels is not None and outcome.thumbnail is not None:
            twin = self.hashes.get(record["pixels"])
            if twin is None:
                if self._offset and self._offset + pixels.size > self.shard_bytes:
                    self._next_shard()
                self._data.write(pixels.tobytes())
                self._thumbnails.write(outcome.thumbnail.tobytes())
                self.hashes[record["pixels"]] = outcome.position
                line = {**record, "shard": self._shard, "offset": self._offset}
                self._offset += pixels.size
                self.written += 1
                self._log(outcome, line)
                return
            reason = f"the same pixels as the file at position {twin}"
        else:
            reason = outcome.reason
        self.rejected += 1
        self._log(outcome, {"position": outcome.position, "reason": reason})

    def flush(self) -> None:
        """Make everything that was added durable: the bytes first, then the journal that describes them."""
        for handle in (self._data, self._thumbnails):
            handle.flush()
            os.fsync(handle.fileno())
        self._journal.write("".join(self._pending).encode())
        self._pending.clear()
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def close(self) -> None:
        """Flush, and write the true length into the header of the last shard."""
        self.flush()
        self._data.close()
        self._write_header(self._shard, self._offset)
        self._journal.close()
        self._thumbnails.close()
        if self._current is not None:
            self._current.close()
        (self.work / _CURRENT).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Close the files as they are, after a failure to write."""
        for handle in (self._data, self._thumbnails, self._journal, self._current):
            with contextlib.suppress(OSError):
                if handle is not None:
                    handle.close()

    def lines(self) -> Iterator[dict[str, Any]]:
        """Go through the journal one line at a time; a last line that a crash cut off is left out.

        Raises:
            DatalistError: if a line is damaged.
        """
        return _journal_lines(self.folder)

    def thumbnails(self) -> NDArray[np.uint8]:
        """Return the thumbnails of the images, uint8 (N, 16, 16), in the order of the index."""
        if self.written == 0:
            return np.zeros((0, THUMBNAIL, THUMBNAIL), np.uint8)
        values = np.memmap(self.work / _THUMBNAILS, dtype=np.uint8, mode="r")
        return values.reshape(-1, THUMBNAIL, THUMBNAIL)

    def _log(self, outcome: Outcome, line: dict[str, Any]) -> None:
        self.done.add(outcome.source)
        self._pending.append(_journal_line({"source": outcome.source, **line}))
        if len(self._pending) >= _FLUSH_EVERY:
            self.flush()

    def _recover(self) -> None:
        """Read what an earlier run did, and cut off what its journal does not describe."""
        for line in self.lines():
            self.done.add(line["source"])
            if "reason" in line:
                self.rejected += 1
                continue
            self.written += 1
            self.hashes[line["pixels"]] = line["position"]
            self._shard, self._offset = line["shard"], line["offset"] + line["height"] * line["width"]
        journal = self.work / _JOURNAL
        if journal.is_file() and journal.read_bytes()[-1:] not in (b"\n", b""):
            text = journal.read_bytes()
            write_bytes_atomically(journal, text[: text.rfind(b"\n") + 1])
        self._cut(self.work / _THUMBNAILS, self.written * _TILE)

    def _cut(self, path: Path, length: int) -> None:
        """Shorten a file to the bytes that the journal describes."""
        size = path.stat().st_size if path.is_file() else 0
        if size < length:
            raise DatalistError(
                f"{path} is damaged: it has {size} of the {length} bytes that the journal describes; name a new folder"
            )
        if path.is_file():
            os.truncate(path, length)

    def _open_shard(self) -> BinaryIO:
        path = self.folder / shard_name(self._shard)
        if self._offset:
            self._cut(path, HEADER_BYTES + self._offset)
        else:
            path.write_bytes(npy_header(0))
        handle = path.open("r+b")  # the header is rewritten when the shard is complete
        handle.seek(0, os.SEEK_END)
        return handle

    def _next_shard(self) -> None:
        self.flush()
        self._data.close()
        self._write_header(self._shard, self._offset)
        self._shard, self._offset = self._shard + 1, 0
        self._data = self._open_shard()

    def _write_header(self, shard: int, length: int) -> None:
        with (self.folder / shard_name(shard)).open("r+b") as handle:
            handle.write(npy_header(length))
            handle.flush()
            os.fsync(handle.fileno())


def _journal_line(content: dict[str, Any]) -> str:
    """One line: a checksum and JSON."""
    text = json.dumps(content)
    return f"{zlib.crc32(text.encode()):08x} {text}\n"


def _journal_lines(folder: Path) -> Iterator[dict[str, Any]]:
    path = folder / WORK_FOLDER / _JOURNAL
    if not path.is_file():
        return
    with path.open("rb") as handle:
        for number, line in enumerate(handle, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                if int(line[:8], 16) != zlib.crc32(line[9:-1]):
                    raise ValueError
                yield json.loads(line[9:])
            except ValueError:
                raise DatalistError(
                    f"line {number} of {path} is damaged, or written by another version of this package; name a new "
                    "folder"
                ) from None


def write_index(writer: ShardWriter, groups: list[str], splits: list[str]) -> None:
    """Write ``index.npy`` at once, after everything else.

    Args:
        writer: closed writer.
        groups: patient group of each image.
        splits: split of each image.
    """
    index = np.zeros(writer.written, dtype=INDEX_DTYPE)
    names = [name for name in INDEX_DTYPE.names or () if name not in ("group", "split")]
    taken = (line for line in writer.lines() if "reason" not in line)
    for number, line in enumerate(taken):
        for name in names:
            index[number][name] = line[name]
        index[number]["group"], index[number]["split"] = groups[number], splits[number].encode()
    with replace_file(writer.folder / INDEX_FILE) as temporary, temporary.open("wb") as handle:
        np.save(handle, index)
