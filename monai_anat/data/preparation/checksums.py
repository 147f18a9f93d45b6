"""Checksums of a prepared folder, and the check that finds one flipped bit."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.items import DatalistError
from monai_anat.data.reading.shards import INDEX_FILE, image_digest, open_index, shard_name
from monai_anat.files import file_sha256, write_text_atomically

__all__ = [
    "CHECKSUM_FILE",
    "HEADER_BYTES",
    "npy_header",
    "verify_prepared_folder",
    "write_checksums",
]

#: checksums of the files beside the shards; every image has its own in the index
CHECKSUM_FILE = "checksums.json"
#: bytes of the header of a shard, whatever its length
HEADER_BYTES = 128
_TABLES = ("datalist.json", "duplicates.csv", "rejected.csv", "summary.json")
_FILES = (
    INDEX_FILE,
    *_TABLES,
    "thumbnails.npy",
    "contact_sheet.png",
    ".prepare/journal.jsonl",
    ".prepare/thumbnails.u8",
)
_SHOWN = 5


def npy_header(length: int) -> bytes:
    """Return the 128-byte header of a .npy file of ``length`` bytes (format version 1.0).

    Args:
        length: number of uint8 values.

    >>> len(npy_header(5)), len(npy_header(10**12))
    (128, 128)
    """
    words = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({length},), }}".encode()
    body = words + b" " * (HEADER_BYTES - 10 - len(words) - 1) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(body).to_bytes(2, "little") + body


def write_checksums(folder: str | os.PathLike[str]) -> None:
    """Write the checksums of the finished files of a prepared folder.

    Args:
        folder: prepared folder.
    """
    files = {name: file_sha256(path) for name in _FILES if (path := Path(folder) / name).is_file()}
    content = {"files": files, "checksum": _digest_of(files)}
    write_text_atomically(Path(folder) / CHECKSUM_FILE, json.dumps(content, indent=1))


def _digest_of(files: Any) -> str:
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def verify_prepared_folder(folder: str | os.PathLike[str]) -> int:
    """Check every image and file of a prepared folder against its checksum.

    Args:
        folder: folder that ``prepare`` finished.

    Returns:
        Number of images, all of which are whole.

    Raises:
        DatalistError: if anything is damaged or missing. The message names up to five images or files.
    """
    root = Path(folder).expanduser()
    damages = list(_damaged_files(root))
    count = 0
    if INDEX_FILE not in [name for name, _ in damages]:
        index = open_index(root)
        count = len(index)
        damages += _damaged_images(root, index)
    if damages:
        told = "; ".join(f"{name}: {what}" for name, what in damages[:_SHOWN])
        more = f"; and {len(damages) - _SHOWN} more" if len(damages) > _SHOWN else ""
        raise DatalistError(
            f"{root} is damaged: {told}{more}; copy the named files again, or prepare into a new folder"
        )
    return count


def _damaged_files(root: Path) -> Iterator[tuple[str, str]]:
    try:
        content = (root / CHECKSUM_FILE).read_bytes()
    except OSError:
        raise DatalistError(
            f"folder must be one that `prepare` finished (with {CHECKSUM_FILE}), got {str(root)!r}; "
            "give the `prepare` command again, which finishes it"
        ) from None
    try:
        expected, own = (json.loads(content)[name] for name in ("files", "checksum"))
        if _digest_of(expected) != own:
            raise ValueError
    except (ValueError, KeyError, TypeError):
        yield CHECKSUM_FILE, "the content does not match its checksum"
        return
    for name, digest in expected.items():
        if not (root / name).is_file():
            yield name, "the file is missing"
        elif file_sha256(root / name) != digest:
            yield name, "the content does not match its checksum"


def _damaged_images(root: Path, index: NDArray[Any]) -> Iterator[tuple[str, str]]:
    """Yield shards with a damaged header or length, and images whose pixels do not match their checksum."""
    shards = index["shard"]
    for shard in np.unique(shards).tolist():
        name, rows = shard_name(shard), np.flatnonzero(shards == shard)
        last = index[int(rows[-1])]
        length = int(last["offset"]) + int(last["height"]) * int(last["width"])
        path = root / name
        if not path.is_file():
            yield name, "the file is missing"
            continue
        with path.open("rb") as handle:
            header = handle.read(HEADER_BYTES)
            if header != npy_header(length) or path.stat().st_size != HEADER_BYTES + length:
                yield name, "the header or the length is wrong"
            for row in rows.tolist():
                record = index[row]
                height, width = int(record["height"]), int(record["width"])
                handle.seek(HEADER_BYTES + int(record["offset"]))
                content = np.frombuffer(handle.read(height * width), np.uint8)
                whole = len(content) == height * width
                if not whole or image_digest(content.reshape(height, width)) != record["pixels"].decode():
                    place = f"bytes {HEADER_BYTES + int(record['offset'])} to {handle.tell()}"
                    yield f"{INDEX_FILE}#{row}", f"the pixels do not match their checksum ({name}, {place})"
