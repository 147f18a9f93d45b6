"""Decoded images, the error of unreadable files, and limits that hold before memory is allocated."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.reading.orientation import UPRIGHT, StoredPicture, Turn

__all__ = [
    "MAX_INFLATED_BYTES",
    "MAX_PIXELS",
    "Decoded",
    "UnreadableError",
    "check_size",
    "check_total_size",
    "inflate",
    "is_plausible_aspect",
    "is_strip",
]

#: limit on the number of pixels; larger headers are refused before memory is allocated
MAX_PIXELS = 100_000_000
#: limit on the size of unpacked data whose true size is not known in advance
MAX_INFLATED_BYTES = 256 * 2**20
_MAX_PIXEL_ASPECT = 8.0
_MAX_PROPORTION = 4.0
_CHUNK = 1 << 20


class UnreadableError(Exception):
    """A reason why a file cannot be read.

    Attributes:
        reason: a sentence without the file's name or content.
        detail: further words, which may hold parts of the content.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        self.reason, self.detail = reason, detail
        super().__init__(reason)


@dataclass(frozen=True)
class Decoded:
    """A decoded image.

    Attributes:
        pixels: (H, W), upright.
        spacing: distance between pixel centers (row, column) in mm, or None if unknown.
        info: how the image was read, without anything that identifies the patient.
        patient: the patient's id, which must not get into ``info``.
        turn: the turn that the file's header requested, from the stored picture to ``pixels``.
        states_orientation: whether the file states its orientation, be it the upright one.
        file_affine: affine (4, 4) of the file in RAS+, with the axes of the image first; None if it has none.
    """

    pixels: NDArray[Any]
    spacing: tuple[float, float] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    patient: str | None = None
    turn: Turn = UPRIGHT
    states_orientation: bool = False
    file_affine: NDArray[np.float64] | None = None

    @property
    def stored(self) -> StoredPicture:
        """Size of the stored picture and its turn, for masks and landmarks drawn on it."""
        return StoredPicture(self.turn.shape((self.pixels.shape[0], self.pixels.shape[1])), self.turn)


def check_size(height: int, width: int) -> None:
    """Refuse an image that cannot be a radiograph, before it is decoded.

    Args:
        height: number of rows.
        width: number of columns.

    Raises:
        UnreadableError: if the image has no pixels, or more than ``MAX_PIXELS``.
    """
    if height < 1 or width < 1:
        raise UnreadableError(f"the image has no pixels: {height} rows and {width} columns")
    if height * width > MAX_PIXELS:
        raise UnreadableError(f"the image is absurdly large: {height} x {width} pixels, the limit is {MAX_PIXELS}")


def check_total_size(shape: Sequence[int]) -> None:
    """Refuse an array with more than ``MAX_PIXELS`` values over all of its axes, before it is allocated.

    Args:
        shape: all axes: rows, columns, slices, frames.

    Raises:
        UnreadableError: if an axis is empty or the product is too large.
    """
    total = math.prod(int(length) for length in shape)
    if any(length < 1 for length in shape):
        raise UnreadableError(f"the image has no pixels: shape {' x '.join(str(int(n)) for n in shape)}")
    if total > MAX_PIXELS:
        raise UnreadableError(f"the file is absurdly large: {total} values over all axes, the limit is {MAX_PIXELS}")


def is_plausible_aspect(height: float, width: float) -> bool:
    """Check whether a pixel can have these proportions. Headers with extreme ones are wrong.

    Args:
        height: height of a pixel, in any unit.
        width: width of a pixel, in the same unit.

    >>> is_plausible_aspect(0.2, 0.1), is_plausible_aspect(1000, 0.1), is_plausible_aspect(0, 0)
    (True, False, False)
    """
    if not (np.isfinite(height) and np.isfinite(width) and height > 0 and width > 0):
        return False
    return bool(1 / _MAX_PIXEL_ASPECT <= height / width <= _MAX_PIXEL_ASPECT)


def is_strip(height: float, width: float) -> bool:
    """Check whether an image is more than four times as long as wide, which no chest radiograph is.

    Args:
        height: height of the image, in any unit.
        width: width of the image, in the same unit.

    >>> is_strip(1, 3000), is_strip(430, 350)
    (True, False)
    """
    return max(height, width) > _MAX_PROPORTION * min(height, width)


def inflate(stream: BinaryIO, most: int = MAX_INFLATED_BYTES, wbits: int = zlib.MAX_WBITS | 32) -> bytes:
    """Decompress a zlib, gzip or raw deflate stream, up to a limit.

    Args:
        stream: the compressed bytes, read in pieces.
        most: largest number of bytes to return.
        wbits: format of the stream, as in :func:`zlib.decompressobj`; the default detects zlib and gzip.

    Raises:
        UnreadableError: if the stream unpacks to more than ``most`` bytes.
        EOFError: if the stream ends early.
        zlib.error: if the stream is damaged.

    >>> import io
    >>> inflate(io.BytesIO(zlib.compress(b"bone")), 10)
    b'bone'
    """
    parts: list[bytes] = []
    size, decoder = 0, zlib.decompressobj(wbits)
    while block := (decoder.unconsumed_tail or decoder.unused_data or stream.read(_CHUNK)):
        if decoder.eof:
            if wbits < zlib.MAX_WBITS or not block.startswith(b"\x1f\x8b"):
                break  # padding after the end; only gzip files may hold several members
            decoder = zlib.decompressobj(wbits)
        part = decoder.decompress(block, most - size + 1)
        size += len(part)
        parts.append(part)
        if size > most:
            raise UnreadableError(f"the compressed data unpack to more than {most} bytes, which no radiograph needs")
    if not decoder.eof:
        raise EOFError("compressed data end early")
    return b"".join(parts)
