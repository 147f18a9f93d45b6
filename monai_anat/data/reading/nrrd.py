"""NRRD headers, parsed here so that no header can name a file elsewhere on the disk.

Format: https://teem.sourceforge.net/nrrd/format.html
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from monai_anat.data.reading.decoded import UnreadableError
from monai_anat.data.reading.raw_volume import MAX_AXES, MAX_HEADER_BYTES, RawBlock, RawVolume, file_beside

__all__ = ["read_nrrd_header"]

_TYPES = {
    **dict.fromkeys(("signed char", "int8", "int8_t"), "i1"),
    **dict.fromkeys(("uchar", "unsigned char", "uint8", "uint8_t"), "u1"),
    **dict.fromkeys(("short", "short int", "signed short", "signed short int", "int16", "int16_t"), "i2"),
    **dict.fromkeys(("ushort", "unsigned short", "unsigned short int", "uint16", "uint16_t"), "u2"),
    **dict.fromkeys(("int", "signed int", "int32", "int32_t"), "i4"),
    **dict.fromkeys(("uint", "unsigned int", "uint32", "uint32_t"), "u4"),
    **dict.fromkeys(("longlong", "long long", "signed long long", "int64", "int64_t"), "i8"),
    **dict.fromkeys(("ulonglong", "unsigned long long", "uint64", "uint64_t"), "u8"),
    "float": "f4",
    "double": "f8",
}
_ENCODINGS = {"raw": "", "gzip": "zlib", "gz": "zlib", "ascii": "text", "text": "text", "txt": "text"}
#: factors from the axes of a space to LPS; other spaces count as LPS, as in ITK
_SPACES = {
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}
_CHANNEL_KINDS = {"rgb-color", "rgba-color", "3-color", "4-color", "vector", "list", "3-vector", "4-vector", "2-vector"}


def read_nrrd_header(path: Path) -> RawVolume:
    """Parse the header of an NRRD file.

    Args:
        path: the ``.nrrd`` or ``.nhdr`` file.

    Raises:
        UnreadableError: if the header is damaged, longer than ``MAX_HEADER_BYTES``, or names a data file outside its
            folder.
    """
    fields, end = _fields(path)
    try:
        return _volume(path, fields, end)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise UnreadableError("the image is damaged or truncated: its NRRD header is malformed") from error


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields of the header, and the position after its blank line; a detached header may end without one."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        file.readline(MAX_HEADER_BYTES)  # the magic number
        while file.tell() < MAX_HEADER_BYTES:
            line = file.readline(MAX_HEADER_BYTES)
            text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
            if not text:
                return fields, file.tell()
            key, sign, value = text.partition(":")
            if sign and not text.startswith("#") and not value.startswith("="):
                fields[key.strip().lower().replace(" ", "")] = value.strip()
        raise UnreadableError(f"the NRRD header is longer than {MAX_HEADER_BYTES} bytes")


def _volume(path: Path, fields: Mapping[str, str], end: int) -> RawVolume:
    axes = int(fields["dimension"])
    if not 1 <= axes <= MAX_AXES:
        raise UnreadableError(f"the file has {axes} axes; a radiograph has two")
    sizes = [int(number) for number in fields["sizes"].split()]
    if len(sizes) != axes:
        raise ValueError("sizes")
    vectors = _vectors(fields.get("spacedirections"), axes)
    first = 1 if _has_channels(fields, vectors) else 0
    if any(vector is None for vector in vectors[first:]) and fields.get("spacedirections"):
        raise UnreadableError("the colors of the NRRD are not its first axis, which is not supported")
    kind = fields["type"].lower()
    encoding = fields["encoding"].lower()
    if kind not in _TYPES or encoding not in _ENCODINGS:
        raise UnreadableError("the NRRD has a number type or an encoding that is not supported")
    dtype = np.dtype((">" if fields.get("endian", "little").lower() == "big" else "<") + _TYPES[kind])
    name = fields.get("datafile")
    place = path if name is None else file_beside(path, os.fsdecode(name.encode("utf-8", "surrogateescape")))
    skipped = int(fields.get("byteskip", "0"))
    if int(fields.get("lineskip", "0")) != 0 or (skipped != 0 and _ENCODINGS[encoding]):
        raise UnreadableError("the NRRD skips lines or bytes of compressed data, which is not supported")
    start = None if skipped < 0 else skipped + (end if name is None else 0)
    channels = sizes[0] if first else 1
    block = RawBlock(place, start, tuple(sizes[first:]), channels, dtype, _ENCODINGS[encoding])
    return _placed(block, fields, vectors[first:], first)


def _placed(block: RawBlock, fields: Mapping[str, str], vectors: list[list[float] | None], first: int) -> RawVolume:
    """The volume with its directions, from the space or from the spacings alone."""
    axes = len(block.shape)
    if fields.get("spacedirections"):
        factors = _SPACES.get(re.sub(r"-time$|t$", "", fields.get("space", "").lower()), (1, 1, 1))
        origin = _vectors(fields.get("spaceorigin"), 1)[0] or [0.0] * 3
        placed = [[n * f for n, f in zip(vector or (), factors, strict=False)] for vector in vectors]
        return RawVolume(block, placed, [n * f for n, f in zip(origin, factors, strict=False)])
    spacings = _numbers(fields.get("spacings"), first + axes, 1.0)[first:]
    minima = _numbers(fields.get("axismins"), first + axes, 0.0)[first:]
    directions = [[spacings[axis] if other == axis else 0.0 for other in range(axes)] for axis in range(axes)]
    return RawVolume(block, directions, minima)


def _has_channels(fields: Mapping[str, str], vectors: list[list[float] | None]) -> bool:
    """Whether the first axis holds the channels of a pixel."""
    kinds = fields.get("kinds", "").lower().split()
    without_direction = bool(fields.get("spacedirections")) and vectors[0] is None
    return without_direction or bool(kinds and kinds[0] in _CHANNEL_KINDS)


def _vectors(text: str | None, count: int) -> list[list[float] | None]:
    """Vectors such as ``none (1,0,0) (0,1,0)``."""
    if text is None:
        return [None] * count
    found: list[list[float] | None] = []
    for word in re.findall(r"\([^)]*\)|none", text):
        found.append(None if word == "none" else [float(number) for number in word[1:-1].split(",")])
    if len(found) != count:
        raise ValueError("vectors")
    return found


def _numbers(text: str | None, count: int, default: float) -> list[float]:
    """Numbers of a field, with the default in the place of not-a-number."""
    numbers = [default] * count if text is None else [float(word) for word in text.split()]
    if len(numbers) != count:
        raise ValueError("numbers")
    return [number if math.isfinite(number) else default for number in numbers]
