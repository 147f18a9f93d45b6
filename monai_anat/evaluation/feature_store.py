"""Features on disk, appended under keys and safe for several processes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.items import file_of
from monai_anat.files import file_key, write_text_atomically

__all__ = ["DamagedFeaturesError", "FeatureStore", "image_key"]

logger = logging.getLogger(__name__)

Floats = NDArray[np.float32]


class DamagedFeaturesError(ValueError):
    """Arrays on disk differ from their checksums. The store has forgotten them, so that they are computed again."""


def image_key(path: str | os.PathLike[str]) -> str:
    """Identify a version of an image: path, size and time of the last change. An edited image gets a new key.

    Args:
        path: path of an item: an image file, or a prepared image such as ``index.npy#12``.

    Returns:
        :func:`~monai_anat.files.file_key` of its file, and the number; the path itself if there is no such file.

    >>> image_key("gone.png")
    'gone.png'
    """
    text = os.fspath(path)
    file = file_of(text)
    try:
        return f"{file_key(file)}{text[len(file) :]}"
    except OSError:
        return text


@dataclass(frozen=True)
class _Row:
    """Place of an array on disk."""

    data: Path
    number: int
    checksum: int


class FeatureStore:
    """Float32 arrays of one shape, found by key and read row by row, so that memory stays small.

    Every process appends to a pair of files of its own, ``NAME.ID.bin`` and ``NAME.ID.json``, and reads the pairs of
    all processes. Several processes can therefore fill one folder at the same time. The index is replaced atomically,
    after its data are on disk: a killed process loses what it had not flushed, and nothing else. A pair with an
    unreadable index or too little data is ignored, and a row with a wrong checksum is forgotten; both are computed
    again. Keys are hashed, so that the index contains no file names.

    Args:
        folder: where the files are; created if it does not exist.
        name: common part of the file names.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = FeatureStore(folder, "embeddings")
    ...     store.append("a.png", np.ones(3)); store.append("b.png", np.zeros(3)); store.flush()
    ...     store.missing(["b.png", "c.png"]), store.read(["b.png", "a.png"])[:, 0].tolist()
    (['c.png'], [0.0, 1.0])
    """

    def __init__(self, folder: str | os.PathLike[str], name: str) -> None:
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._shape: tuple[int, ...] | None = None
        self._rows: dict[str, _Row] = {}
        own = uuid.uuid4().hex
        self._data, self._index = (self._folder / f"{name}.{own}{suffix}" for suffix in (".bin", ".json"))
        self._own: dict[str, int] = {}  # hashed key -> checksum, in the order of the rows
        for index in sorted(self._folder.glob(f"{name}.*.json")):
            self._load(index)

    def __len__(self) -> int:
        return len(self._rows)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """Return the keys that have no array yet, each once."""
        return [key for key in dict.fromkeys(keys) if _hashed(key) not in self._rows]

    def append(self, key: str, array: NDArray[Any]) -> None:
        """Add an array under a new key.

        Raises:
            ValueError: if the key exists, or the array has another shape than those before it.
        """
        values = np.ascontiguousarray(array, dtype=np.float32)
        name = _hashed(key)
        if name in self._rows:
            raise ValueError(f"key must be new, got {key!r}, which is there already; ask missing() first")
        if self._shape is None:
            self._shape = values.shape
        if values.shape != self._shape:
            raise ValueError(f"array must have the shape {self._shape} of those before it, got {values.shape}")
        content = values.tobytes()
        with self._data.open("ab") as file:
            file.write(content)
        row = _Row(self._data, len(self._own), zlib.crc32(content))
        self._rows[name], self._own[name] = row, row.checksum

    def flush(self) -> None:
        """Write the index. What was appended before is then available to other processes."""
        if not self._own:
            return
        with self._data.open("rb+") as file:
            os.fsync(file.fileno())
        content = {"shape": list(self._shape or ()), "keys": list(self._own), "checksums": list(self._own.values())}
        write_text_atomically(self._index, json.dumps(content))

    def read(self, keys: Sequence[str]) -> Floats:
        """Read the arrays of these keys, (len(keys), ...), into memory.

        Raises:
            KeyError: if a key has no array.
            DamagedFeaturesError: if an array differs from its checksum. It is missing from then on.
        """
        unknown = self.missing(keys)
        if unknown or self._shape is None:
            raise KeyError(f"keys must be in the store, got {unknown[:1]}; append their arrays first")
        maps: dict[Path, Floats] = {}
        found = np.empty((len(keys), *self._shape), dtype=np.float32)
        damaged = []
        for position, name in enumerate(map(_hashed, keys)):
            row = self._rows[name]
            if row.data not in maps:
                maps[row.data] = self._memory_map(row.data)
            if row.number < len(maps[row.data]):
                found[position] = maps[row.data][row.number]
            if row.number >= len(maps[row.data]) or zlib.crc32(found[position].tobytes()) != row.checksum:
                damaged.append(name)
        if damaged:
            for name in damaged:
                self._forget(name)
            raise DamagedFeaturesError(f"{len(set(damaged))} features in {self._folder} are damaged")
        return found

    def _memory_map(self, path: Path) -> Floats:
        count = path.stat().st_size // self._bytes() if path.is_file() else 0
        if not count:
            return np.empty((0, *(self._shape or ())), dtype=np.float32)
        return np.memmap(path, dtype=np.float32, mode="r", shape=(count, *(self._shape or ())))

    def _forget(self, name: str) -> None:
        if self._rows.pop(name, None) is not None and name in self._own:
            # the row stays in the file; its place in the index gets a name that no key has
            self._own = {f"damaged {key}" if key == name else key: check for key, check in self._own.items()}

    def _load(self, index: Path) -> None:
        """Add the rows of a pair of files, unless they are damaged."""
        data = index.with_suffix(".bin")
        try:
            content = json.loads(index.read_text(encoding="utf-8"))
            shape = tuple(int(side) for side in content["shape"])
            rows = list(zip(content["keys"], content["checksums"], strict=True))
            size = data.stat().st_size
        except (OSError, ValueError, KeyError, TypeError) as error:
            logger.warning(f"features in {index} cannot be read and are computed again: {error}")
            return
        if self._shape not in (None, shape) or size < 4 * int(np.prod(shape)) * len(rows):
            logger.warning(f"features in {data} are incomplete and are computed again")
            return
        self._shape = shape
        for number, (name, checksum) in enumerate(rows):
            self._rows.setdefault(name, _Row(data, number, checksum))

    def _bytes(self) -> int:
        return max(4, 4 * int(np.prod(self._shape))) if self._shape is not None else 4


def _hashed(key: str) -> str:
    return hashlib.blake2b(key.encode(), digest_size=16).hexdigest()
