"""How a preparation writes: shards that grow, and a journal that says which bytes of them count.

A line of the journal is written after the bytes that it speaks of. Whatever happens, a later run reads the journal,
cuts the shards back to what it says, and goes on; an image is never decoded twice and never half there.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.items import DatalistError
from monai_anat.data.preparation.prepare_one import THUMBNAIL, Outcome
from monai_anat.data.reading.shards import INDEX_DTYPE, INDEX_FILE, shard_name

__all__ = [
    "ShardWriter",
    "npy_header",
    "write_index",
    "write_whole",
]

WORK_FOLDER = ".prepare"
_HEADER = 128  # bytes of a .npy header that are kept free, whatever the length will be
_FLUSH_EVERY = 32


def npy_header(length: int) -> bytes:
    """Return the 128-byte header of a .npy file of ``length`` bytes (format version 1.0).

    Args:
        length: number of uint8 values.

    >>> len(npy_header(5)), len(npy_header(10**12))
    (128, 128)
    """
    words = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({length},), }}".encode()
    body = words + b" " * (_HEADER - 10 - len(words) - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


class ShardWriter:
    """Append images to shards, keeping a journal, in a folder that may hold the work of an earlier run.

    Args:
        folder: the prepared folder.
        settings: arguments that decide what an image looks like; another run with other ones is refused.
        shard_bytes: when a shard is full.

    Raises:
        DatalistError: the folder was begun with other settings, or holds something else.
    """

    def __init__(self, folder: Path, settings: dict[str, Any], shard_bytes: int) -> None:
        self.folder, self.work, self.shard_bytes = folder, folder / WORK_FOLDER, shard_bytes
        if folder.is_dir() and any(folder.iterdir()) and not self.work.is_dir():
            raise DatalistError(f"out must be a new or empty folder, or one that `prepare` began, got {str(folder)!r}")
        self.work.mkdir(parents=True, exist_ok=True)
        self._check_settings(settings)
        self.done: set[str] = set()
        self.hashes: dict[str, int] = {}
        self.written = self.rejected = 0
        self._shard, self._offset = 0, 0
        self._recover()
        self._journal: TextIO = (self.work / "journal.jsonl").open("a")
        self._thumbnails: BinaryIO = (self.work / "thumbnails.u8").open("ab")
        self._data: BinaryIO = self._open_shard()
        self._pending: list[str] = []

    def add(self, outcome: Outcome) -> None:
        """Write one outcome; an image whose pixels are there already is set aside."""
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
        """Make everything that was added durable: bytes first, then the journal that speaks of them."""
        for handle in (self._data, self._thumbnails):
            handle.flush()
            os.fsync(handle.fileno())
        self._journal.write("".join(self._pending))
        self._pending.clear()
        self._journal.flush()
        os.fsync(self._journal.fileno())

    def close(self) -> None:
        """Flush, and give every shard its true length."""
        self.flush()
        self._data.close()
        self._write_header(self._shard, self._offset)
        self._journal.close()
        self._thumbnails.close()

    def abandon(self) -> None:
        """Close the files as they are, after a failure to write."""
        for handle in (self._data, self._thumbnails, self._journal):
            try:
                handle.close()
            except OSError:
                continue

    def lines(self) -> Iterator[dict[str, Any]]:
        """Go through the journal, a line at a time; a line cut off by a crash is left out."""
        path = self.work / "journal.jsonl"
        if not path.is_file():
            return
        with path.open() as handle:
            for text in handle:
                if not text.endswith("\n"):
                    return
                yield json.loads(text)

    def thumbnails(self) -> NDArray[np.uint8]:
        """Return the thumbnails of the images, uint8 (N, 16, 16), in the order of the index."""
        if self.written == 0:
            return np.zeros((0, THUMBNAIL, THUMBNAIL), np.uint8)
        values = np.memmap(self.work / "thumbnails.u8", dtype=np.uint8, mode="r")
        return values.reshape(-1, THUMBNAIL, THUMBNAIL)

    def _log(self, outcome: Outcome, line: dict[str, Any]) -> None:
        self.done.add(outcome.source)
        self._pending.append(json.dumps({"source": outcome.source, **line}) + "\n")
        if len(self._pending) >= _FLUSH_EVERY:
            self.flush()

    def _check_settings(self, settings: dict[str, Any]) -> None:
        path = self.work / "settings.json"
        if not path.is_file():
            write_whole(path, json.dumps(settings).encode())
            return
        before = json.loads(path.read_text())
        differing = [name for name in settings if before.get(name) != settings[name]]
        if differing:
            told = ", ".join(f"{name}={before.get(name)!r} then and {settings[name]!r} now" for name in differing)
            raise DatalistError(
                f"out was begun with other arguments ({told}); name a new folder, or use the same arguments"
            )

    def _recover(self) -> None:
        """Read what an earlier run did, and cut off what its journal does not speak of."""
        valid = 0
        for line in self.lines():
            valid += 1
            self.done.add(line["source"])
            if "reason" in line:
                self.rejected += 1
                continue
            self.written += 1
            self.hashes[line["pixels"]] = line["position"]
            self._shard, self._offset = line["shard"], line["offset"] + line["height"] * line["width"]
        journal = self.work / "journal.jsonl"
        if journal.is_file() and journal.read_bytes()[-1:] not in (b"\n", b""):
            text = journal.read_bytes()
            write_whole(journal, text[: text.rfind(b"\n") + 1])
        thumbnails = self.work / "thumbnails.u8"
        if thumbnails.is_file():
            os.truncate(thumbnails, self.written * THUMBNAIL * THUMBNAIL)

    def _open_shard(self) -> BinaryIO:
        path = self.folder / shard_name(self._shard)
        if not path.is_file():
            path.write_bytes(npy_header(0))
        # in place: the header is rewritten when the shard is complete, and bytes beyond the journal are overwritten
        handle = path.open("r+b")
        handle.truncate(_HEADER + self._offset)
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


def write_index(writer: ShardWriter, groups: list[str], splits: list[str]) -> None:
    """Write ``index.npy`` in one go, after everything else.

    Args:
        writer: the finished writer.
        groups: patient group per image.
        splits: split per image.
    """
    index = np.zeros(writer.written, dtype=INDEX_DTYPE)
    number = 0
    names = [name for name in INDEX_DTYPE.names or () if name not in ("group", "split")]
    for line in writer.lines():
        if "reason" in line:
            continue
        for name in names:
            index[number][name] = line[name]
        index[number]["group"], index[number]["split"] = groups[number], splits[number].encode()
        number += 1
    path = writer.folder / INDEX_FILE
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as handle:
        np.save(handle, index)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the new one, never a half.

    Args:
        path: the file.
        content: its new content.
    """
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())
    temporary.replace(path)
