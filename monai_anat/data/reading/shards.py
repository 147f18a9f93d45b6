"""Prepared radiographs in memory-mapped shards.

A prepared folder holds ``shard-00000.npy`` ... (flat uint8 arrays), ``index.npy`` (one fixed-size record per image,
memory-mapped as well) and ``datalist.json``. Images are read without copying and without opening a million files.
Processes that read the same folder share one copy in the page cache.
"""

from __future__ import annotations

import hashlib
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
from monai_anat.data.reading.decoded import Decoded, UnreadableError
from monai_anat.keys import IMAGE

__all__ = [
    "INDEX_DTYPE",
    "INDEX_FILE",
    "ShardDataset",
    "check_split_names",
    "image_digest",
    "open_index",
    "prepared_items",
    "read_shard_image",
    "shard_name",
    "shard_view",
]

INDEX_FILE = "index.npy"
#: one image of a prepared folder; ``group`` is a keyed hash, ``pixels`` the checksum of the stored pixels
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
_DAMAGED = "its pixels do not match their checksum; check the folder with `verify` and prepare it again"


def shard_name(number: int) -> str:
    """Return the file name of a shard.

    Args:
        number: number of the shard, counted from 0.

    >>> shard_name(3)
    'shard-00003.npy'
    """
    return f"shard-{number:05d}.npy"


def image_digest(pixels: NDArray[np.uint8]) -> str:
    """Compute the checksum of a prepared image: BLAKE2b, 128 bits, of its pixels and its size.

    Args:
        pixels: uint8 (H, W).

    >>> len(image_digest(np.zeros((2, 3), np.uint8)))
    32
    """
    size = f"{pixels.shape[0]}x{pixels.shape[1]}".encode()
    return hashlib.blake2b(np.ascontiguousarray(pixels).data, digest_size=16, person=size).hexdigest()


class ShardDataset(Dataset[dict[str, Any]]):
    """Map-style dataset over a prepared folder: uint8 images (1, H, W), memory-mapped, at the prepared size.

    Opening the dataset reads no image and does not copy the index: 10^6 images open in milliseconds. Workers and
    processes map the same pages.

    Args:
        folder: a folder that ``prepare`` wrote.
        split: name of the split to use; None uses all images.
        transform: transform for each item's dict.
        copy: return tensors that own their memory and may be modified. False returns read-only arrays without copying.
        crop: side of a center crop in pixels; None returns whole images.
        verify: compare each image with its checksum when this process reads it for the first time.

    Raises:
        ValueError: if the crop is larger than the prepared images.
        DatalistError: if the folder was not prepared, or the split is empty; on reading, if an image is damaged.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        split: str | None = None,
        transform: Any = None,
        copy: bool = True,
        crop: int | None = None,
        verify: bool = True,
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
        self._unverified = np.full(len(self.rows), verify)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, number: int) -> dict[str, Any]:
        row = int(self.rows[number])
        view = shard_view(self.folder, row)
        if self._unverified[number]:
            if not _is_intact(self.folder, row, view):
                raise DatalistError(f"image {row} of {self.folder} is damaged: {_DAMAGED}")
            self._unverified[number] = False
        view = view[None]  # (1, H, W)
        if self.crop is not None:
            top, left = (view.shape[1] - self.crop) // 2, (view.shape[2] - self.crop) // 2
            view = view[:, top : top + self.crop, left : left + self.crop]
        # torch has no read-only tensors; copying one image takes 0.1 ms and protects the mapped pages
        pixels = torch.from_numpy(view.copy()) if self.copy else view
        item = {IMAGE: pixels}
        return item if self.transform is None else self.transform(item)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__)


@lru_cache(maxsize=512)
def _mapped(path: str, changed: int) -> NDArray[Any]:
    del changed  # part of the key: a file that a later run rewrote is mapped again
    return np.asanyarray(np.load(path, mmap_mode="r"))


def open_index(folder: str | os.PathLike[str]) -> NDArray[Any]:
    """Map the index of a prepared folder.

    Args:
        folder: a folder that ``prepare`` wrote.

    Returns:
        Structured array of ``INDEX_DTYPE``, one record per image.

    Raises:
        DatalistError: if there is no index, or another version of the package wrote it.
    """
    path = Path(folder) / INDEX_FILE
    if not path.is_file():
        raise DatalistError(f"folder must be one that `prepare` finished (with {INDEX_FILE}), got {str(folder)!r}")
    index = _mapped(str(path), path.stat().st_mtime_ns)
    if index.dtype != INDEX_DTYPE:
        raise DatalistError(f"{path} was written by another version of this package; prepare the folder again")
    return index


def check_split_names(names: Iterable[str | None]) -> None:
    """Refuse names of splits that are too long for the index, before any file is read.

    Args:
        names: names of splits; None and empty names are skipped.

    Raises:
        DatalistError: if a name is too long. The message holds the name.

    >>> check_split_names(["training", None])
    """
    most = int(INDEX_DTYPE["split"].itemsize)
    for name in names:
        if name and len(name.encode()) > most:
            raise DatalistError(f"the name of a split must be at most {most} bytes long, got {name!r}; shorten it")


def shard_view(folder: str | os.PathLike[str], row: int) -> NDArray[np.uint8]:
    """Return one image of a prepared folder without copying it.

    Args:
        folder: a folder that ``prepare`` wrote.
        row: the image's row in the index.

    Returns:
        Read-only uint8 (H, W).

    Raises:
        DatalistError: if the shard is shorter than the index requires.
    """
    record = open_index(folder)[row]
    path = os.path.join(folder, shard_name(int(record["shard"])))  # noqa: PTH118
    shard = _mapped(path, os.stat(path).st_mtime_ns)  # noqa: PTH116
    height, width, offset = int(record["height"]), int(record["width"]), int(record["offset"])
    view = shard[offset : offset + height * width]
    if view.size != height * width:
        raise DatalistError(f"image {row} of {folder} is damaged: {_DAMAGED}")
    return view.reshape(height, width)


def _is_intact(folder: str | os.PathLike[str], row: int, pixels: NDArray[np.uint8]) -> bool:
    """Whether the pixels match the checksum in the index."""
    return bool(open_index(folder)[row]["pixels"].decode("ascii", "replace") == image_digest(pixels))


def read_shard_image(path: str | os.PathLike[str], frame: int | None = None, label: bool = False) -> Decoded:
    """Read one image of a prepared folder by its path in the datalist: ``.../index.npy#12``.

    Args:
        path: path of the index, ``#`` and the image's row.
        frame: unused; a prepared image has one frame.
        label: return the stored values.

    Raises:
        UnreadableError: if there is no such image, or its pixels do not match their checksum.
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
    if not _is_intact(folder, row, values):
        raise UnreadableError(f"the prepared image is damaged: {_DAMAGED}")
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
        folder: a folder that ``prepare`` wrote.
        rows: rows of the index; None lists all.

    Returns:
        Items with ``image`` (``index.npy#NUMBER``, relative to the folder) and ``patient`` (keyed hash).
    """
    index = open_index(folder)
    numbers = range(len(index)) if rows is None else rows
    return [{IMAGE: f"{INDEX_FILE}#{n}", "patient": index[n]["group"].decode()} for n in numbers]
