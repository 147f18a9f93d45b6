"""Arrays on disk under keys, appended one by one: what a frozen encoder has seen once it need not see again."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FeatureStore", "file_key"]


def file_key(path: str | os.PathLike[str]) -> str:
    """A file with its size and time of change: an edited image is another image.

    >>> file_key("gone.png")
    'gone.png'
    """
    name = str(path)
    try:
        status = Path(name.split("#")[0]).stat()
    except OSError:
        return name
    return f"{name} {status.st_size} {status.st_mtime_ns}"


class FeatureStore:
    """Float32 arrays of one shape in one file, found by key and read row by row: memory stays flat.

    A process that is stopped loses what it had not flushed and nothing else.

    Args:
        folder: where the two files are; made when absent.
        name: of the files.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     store = FeatureStore(folder, "embeddings")
    ...     store.append("a.png", np.ones(3)); store.append("b.png", np.zeros(3)); store.flush()
    ...     store.missing(["b.png", "c.png"]), store.read(["b.png", "a.png"])[:, 0].tolist()
    (['c.png'], [0.0, 1.0])
    """

    def __init__(self, folder: str | os.PathLike[str], name: str) -> None:
        self._data, self._index = Path(folder) / f"{name}.bin", Path(folder) / f"{name}.json"
        self._data.parent.mkdir(parents=True, exist_ok=True)
        content: dict[str, Any] = {"shape": None, "keys": []}
        if self._index.is_file():
            content = json.loads(self._index.read_text(encoding="utf-8"))
        self._shape: tuple[int, ...] | None = tuple(content["shape"]) if content["shape"] is not None else None
        self._row = {key: row for row, key in enumerate(content["keys"])}
        self._data.touch()
        os.truncate(self._data, len(self._row) * self._bytes())

    def __len__(self) -> int:
        return len(self._row)

    def missing(self, keys: Sequence[str]) -> list[str]:
        """The keys, each once, that have no array yet."""
        return [key for key in dict.fromkeys(keys) if key not in self._row]

    def append(self, key: str, array: NDArray[Any]) -> None:
        """Add an array under a new key.

        Raises:
            ValueError: the key is there already, or the array has another shape than those before it.
        """
        values = np.ascontiguousarray(array, dtype=np.float32)
        if key in self._row:
            raise ValueError(f"key must be new, got {key!r}, which is there already; ask missing() first")
        if self._shape is None:
            self._shape = values.shape
        if values.shape != self._shape:
            raise ValueError(f"array must have the shape {self._shape} of those before it, got {values.shape}")
        with self._data.open("ab") as file:
            file.write(values.tobytes())
        self._row[key] = len(self._row)

    def flush(self) -> None:
        """Write the index, which makes what was appended last beyond this process."""
        shape = None if self._shape is None else list(self._shape)
        temporary = self._index.with_suffix(".tmp")
        temporary.write_text(json.dumps({"shape": shape, "keys": list(self._row)}), encoding="utf-8")
        temporary.replace(self._index)

    def read(self, keys: Sequence[str]) -> NDArray[np.float32]:
        """The arrays of these keys, (len(keys), ...), as a copy in memory.

        Raises:
            KeyError: naming the first key that has no array.
        """
        unknown = self.missing(keys)
        if unknown or self._shape is None:
            raise KeyError(f"keys must be in the store, got {unknown[:1]}; append their arrays first")
        rows = np.memmap(self._data, dtype=np.float32, mode="r", shape=(len(self._row), *self._shape))
        return np.array(rows[[self._row[key] for key in keys]])

    def _bytes(self) -> int:
        return 4 * int(np.prod(self._shape)) if self._shape is not None else 0
