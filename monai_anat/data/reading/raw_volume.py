"""Raw data blocks of volume files: bounded reading, and data files beside their header."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.reading.decoded import UnreadableError, check_total_size, inflate

__all__ = [
    "MAX_AXES",
    "MAX_HEADER_BYTES",
    "RawBlock",
    "RawVolume",
    "file_beside",
    "read_block",
]

#: limit on the length of a text header; longer ones are refused
MAX_HEADER_BYTES = 1 << 16
#: limit on the number of axes
MAX_AXES = 8
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class RawBlock:
    """Place and layout of the values of a volume file.

    Attributes:
        path: the file with the values.
        start: position of the first byte; None for the last bytes of the file.
        shape: lengths of the axes, the fastest one first.
        channels: numbers per pixel.
        dtype: number type, with its byte order.
        compression: ``zlib`` (also gzip), ``text``, or empty for none.
    """

    path: Path
    start: int | None
    shape: tuple[int, ...]
    channels: int
    dtype: np.dtype[np.generic]
    compression: str = ""


@dataclass(frozen=True)
class RawVolume:
    """Header of a volume file.

    Attributes:
        block: where the values are.
        directions: one LPS vector of three numbers per axis, spacing included.
        origin: LPS coordinates of the first pixel.
    """

    block: RawBlock
    directions: Sequence[Sequence[float]]
    origin: Sequence[float] = field(default=(0.0, 0.0, 0.0))

    def affine(self) -> NDArray[np.float64]:
        """Return the affine (4, 4) in RAS+ for the first three axes."""
        affine = np.eye(4)
        for axis, direction in enumerate(self.directions[:3]):
            affine[:3, axis] = _three(direction)
        affine[:3, 3] = _three(self.origin)
        return _LPS_TO_RAS @ affine

    def has_spacing(self) -> bool:
        """Return whether the spacing of the first two axes differs from the default of 1."""
        lengths = [math.hypot(*direction) for direction in self.directions[:2]]
        return not np.allclose(lengths, 1.0)


def _three(vector: Sequence[float]) -> list[float]:
    return [*vector, 0.0, 0.0, 0.0][:3]


def file_beside(header: Path, name: str) -> Path:
    """Find the data file that a header names, which must lie in the folder of the header.

    Args:
        header: the header file.
        name: the file name in the header.

    Raises:
        UnreadableError: if the name leads out of the folder (an absolute path, ``..``, a link), or there is no such
            regular file.
    """
    outside = UnreadableError("the header names a data file outside its folder, which is not followed")
    if "\0" in name:
        raise UnreadableError("the header names a data file that is not there, or a list of files")
    place = Path(name)
    if place.is_absolute() or ".." in place.parts or "\\" in name:
        raise outside
    found = header.parent / place
    if not found.resolve().is_relative_to(header.parent.resolve()):
        raise outside
    if not found.is_file() or found.resolve() == header.resolve():
        raise UnreadableError("the header names a data file that is not there, or a list of files")
    return found


def read_block(block: RawBlock) -> NDArray[np.generic]:
    """Read the values of a volume file, and no byte more than its header announces.

    Args:
        block: place and layout of the values.

    Returns:
        Array with the axes in the order of ``block.shape``, and the channels last if there are several.

    Raises:
        UnreadableError: if the values are too many or truncated.
        zlib.error: if the compressed values are damaged.
    """
    check_total_size(block.shape)
    count = math.prod(block.shape) * block.channels
    size = count * block.dtype.itemsize
    with block.path.open("rb") as file:
        if block.start is None:
            file.seek(max(0, os.fstat(file.fileno()).st_size - size))
        else:
            file.seek(block.start)
        if block.compression == "zlib":
            try:
                content = inflate(file, size)
            except EOFError:
                content = b""
        elif block.compression == "text":
            words = file.read(count * 32).split()[:count]
            content = np.array(words, dtype=np.float64).astype(block.dtype).tobytes()
        else:
            content = file.read(size)
    if len(content) < size:
        raise UnreadableError("the image is damaged or truncated: it has fewer values than its header announces")
    flat = np.frombuffer(content, block.dtype, count)
    shape = (*reversed(block.shape), block.channels)
    values = np.moveaxis(flat.reshape(shape), -1, 0).T if block.channels > 1 else flat.reshape(shape[:-1]).T
    return np.asarray(values)
