"""Prepared radiographs in a few large memory-mapped files, read without copying and without opening a million files.

A prepared folder holds ``shard-00000.npy`` ... (flat uint8 arrays), ``index.npy`` (one record of fixed size per image,
itself memory-mapped) and ``datalist.json``. Several processes that read the same folder share one copy in the page
cache.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from monai_anat.data.items import DatalistError
from monai_anat.data.reading.decoding import Decoded, UnreadableError
from monai_anat.keys import IMAGE

__all__ = [
    "INDEX_DTYPE",
    "INDEX_FILE",
    "ShardDataset",
    "check_split_names",
    "open_index",
    "prepared_items",
    "read_shard_image",
    "shard_name",
    "shard_view",
]

INDEX_FILE = "index.npy"
#: one image of a prepared folder; ``group`` is a keyed hash, ``pixels`` the hash of the stored pixels
INDEX_DTYPE = np.dtype(
    [
        ("offset", "<u8"),
        ("shard", "<u4"),
        ("height", "<u2"),
        ("width", "<u2"),
        ("original_height", "<u4"),
        ("original_width", "<u4"),
        ("spacing", "<f4", (2,)),
        ("kind", "S6"),
        ("view", "S8"),
        ("split", "S12"),
        ("position", "<u4"),
        ("pixels", "S32"),
        ("group", "S32"),
    ]
)


def shard_name(number: int) -> str:
    """Name a shard file.

    Args:
        number: from 0.

    >>> shard_name(3)
    'shard-00003.npy'
    """
    return f"shard-{number:05d}.npy"


class ShardDataset(Dataset[dict[str, Any]]):
    """Map-style dataset over a prepared folder: uint8 images (1, H, W), memory-mapped, at the prepared size.

    Opening reads no image and copies no index: 10^6 images open in milliseconds. Workers and processes each map the
    same pages. An item's image is a view into the file and must not be written to.

    Args:
        folder: what ``prepare`` wrote.
        split: keep the images of one split only; None keeps all.
        transform: applied to each item's dict.
        copy: give tensors that own their memory and may be written to; else read-only arrays, nothing copied.
        crop: cut the center (crop, crop) out.

    Raises:
        ValueError: the crop is larger than the prepared images.
        DatalistError: the folder was not prepared, or the split is empty.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str | None = None,
        transform: Any = None,
        copy: bool = True,
        crop: int | None = None,
    ) -> None:
        self.folder = Path(folder)
        index = open_index(self.folder)
        self.rows = np.arange(len(index)) if split is None else np.flatnonzero(index["split"] == split.encode())
        if len(self.rows) == 0:
            splits = sorted({value.decode() for value in np.unique(index["split"])})
            raise DatalistError(f"split must be one of {splits} of {str(self.folder)!r}, got {split!r}")
        smallest = min(int(index[int(self.rows[0])]["height"]), int(index[int(self.rows[0])]["width"]))
        if crop is not None and not 1 <= crop <= smallest:
            raise ValueError(
                f"crop must be between 1 and the prepared size {smallest}, got {crop}; prepare at that size"
            )
        self.transform, self.copy, self.crop = transform, copy, crop

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = int(self.rows[number])
        view = shard_view(self.folder, row)[None]  # (1, H, W)
        if self.crop is not None:
            top, left = (view.shape[1] - self.crop) // 2, (view.shape[2] - self.crop) // 2
            view = view[:, top : top + self.crop, left : left + self.crop]
        # torch has no read-only tensors: a copy of one image is .1 ms, and nobody can spoil the file's pages
        pixels = torch.from_numpy(view.copy()) if self.copy else view
        item = {IMAGE: pixels}
        return item if self.transform is None else self.transform(item)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)


@lru_cache(maxsize=512)
def _mapped(path: str, changed: int) -> NDArray[Any]:
    del changed  # part of the key: a file that a later run rewrote is mapped anew
    return np.asanyarray(np.load(path, mmap_mode="r"))


def open_index(folder: str | os.PathLike[str]) -> NDArray[Any]:
    """Map the index of a prepared folder.

    Args:
        folder: what ``prepare`` wrote.

    Returns:
        Structured array of ``INDEX_DTYPE``, one record per image.

    Raises:
        DatalistError: there is no index.
    """
    path = Path(folder) / INDEX_FILE
    if not path.is_file():
        raise DatalistError(f"folder must be one that `prepare` finished (with {INDEX_FILE}), got {str(folder)!r}")
    index = _mapped(str(path), path.stat().st_mtime_ns)
    if index.dtype != INDEX_DTYPE:
        raise DatalistError(f"{path} was written by another version of this package; prepare the folder again")
    return index


def check_split_names(names: Iterable[str | None]) -> None:
    """Refuse names of splits that the index has no room for, before any file is read.

    Args:
        names: of splits; None and empty ones are passed over.

    Raises:
        DatalistError: names the split.

    >>> check_split_names(["training", None])
    """
    room = int(INDEX_DTYPE["split"].itemsize)
    for name in names:
        if name and len(name.encode()) > room:
            raise DatalistError(f"the name of a split must be at most {room} bytes long, got {name!r}; shorten it")


def shard_view(folder: str | os.PathLike[str], row: int) -> NDArray[np.uint8]:
    """Look at one image of a prepared folder without copying it.

    Args:
        folder: what ``prepare`` wrote.
        row: the image's number in the index.

    Returns:
        Read-only uint8 (H, W).
    """
    record = open_index(folder)[row]
    path = os.path.join(folder, shard_name(int(record["shard"])))  # noqa: PTH118
    shard = _mapped(path, os.stat(path).st_mtime_ns)  # noqa: PTH116
    height, width, offset = int(record["height"]), int(record["width"]), int(record["offset"])
    return shard[offset : offset + height * width].reshape(height, width)


def read_shard_image(path: str | os.PathLike[str], frame: int | None = None, label: bool = False) -> Decoded:
    """Read one image of a prepared folder by the path that its datalist gives: ``.../index.npy#12``.

    Args:
        path: index file and number.
        frame: unused, shards hold single frames.
        label: keep the stored values.

    Raises:
        UnreadableError: no such image.
    """
    file, _, number = str(path).rpartition("#")
    folder = Path(file).parent
    try:
        row = int(number)
        if row < 0:  # numpy would count from the end
            raise IndexError(row)
        record = open_index(folder)[row]
    except (ValueError, IndexError) as error:
        raise UnreadableError(
            "a prepared image is named as index.npy#NUMBER, and the index has no such number"
        ) from error
    values = shard_view(folder, row)
    spacing = None if np.isnan(record["spacing"]).any() else (float(record["spacing"][0]), float(record["spacing"][1]))
    info: dict[str, Any] = {
        "kind": "shard",
        "mapping": "stored values" if label else "linear from 0..255",
        "original_size": (int(record["original_height"]), int(record["original_width"])),
        "pixel_aspect": 1.0,
        "spacing_source": "index" if spacing else "unknown",
        "inverted": False,
        "view": record["view"].decode() or None,
    }
    if label:
        return Decoded(np.array(values), spacing, info)
    return Decoded(values.astype(np.float32) * np.float32(1 / 255), spacing, info)


def prepared_items(folder: str | os.PathLike[str], rows: Sequence[int] | None = None) -> list[Mapping[str, Any]]:
    """List the images of a prepared folder as datalist items.

    Args:
        folder: what ``prepare`` wrote.
        rows: which; all by default.

    Returns:
        Items with ``image`` (``index.npy#NUMBER``, relative to the folder) and ``patient`` (keyed hash).
    """
    index = open_index(folder)
    numbers = range(len(index)) if rows is None else rows
    return [{IMAGE: f"{INDEX_FILE}#{n}", "patient": index[n]["group"].decode()} for n in numbers]
