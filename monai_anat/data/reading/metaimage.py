"""MetaImage headers (MHA, MHD), parsed here so that no header can name a file elsewhere on the disk.

Format: https://itk.org/Wiki/ITK/MetaIO/Documentation
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from monai_anat.data.reading.decoded import UnreadableError
from monai_anat.data.reading.raw_volume import MAX_AXES, MAX_HEADER_BYTES, RawBlock, RawVolume, file_beside

__all__ = ["read_meta_header"]

_DATA = "ElementDataFile"
_TYPES = {
    "MET_UCHAR": "u1",
    "MET_CHAR": "i1",
    "MET_ASCII_CHAR": "u1",
    "MET_USHORT": "u2",
    "MET_SHORT": "i2",
    "MET_UINT": "u4",
    "MET_INT": "i4",
    "MET_ULONG": "u4",  # four bytes by the format, whatever the machine
    "MET_LONG": "i4",
    "MET_ULONG_LONG": "u8",
    "MET_LONG_LONG": "i8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}


def read_meta_header(path: Path) -> RawVolume:
    """Parse the header of a MetaImage.

    Args:
        path: the ``.mha`` or ``.mhd`` file.

    Raises:
        UnreadableError: if the header is damaged, longer than ``MAX_HEADER_BYTES``, or names a data file outside its
            folder.
    """
    fields, end = _fields(path)
    try:
        return _volume(path, fields, end)
    except (ValueError, KeyError, IndexError, OverflowError) as error:
        raise UnreadableError("the image is damaged or truncated: its MetaImage header is malformed") from error


def _fields(path: Path) -> tuple[dict[str, str], int]:
    """The fields of the header, and the position after it."""
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < MAX_HEADER_BYTES:
            line = file.readline(MAX_HEADER_BYTES)
            if not line:
                break
            key, sign, value = line.decode("utf-8", "surrogateescape").partition("=")
            if sign:
                fields[key.strip()] = value.strip()
            if key.strip() == _DATA:
                return fields, file.tell()
        else:
            raise UnreadableError(f"the MetaImage header is longer than {MAX_HEADER_BYTES} bytes")
    raise UnreadableError("the image is damaged or truncated: its MetaImage header has no ElementDataFile")


def _volume(path: Path, fields: Mapping[str, str], end: int) -> RawVolume:
    axes = int(fields["NDims"])
    if not 1 <= axes <= MAX_AXES:
        raise UnreadableError(f"the file has {axes} axes; a radiograph has two")
    shape = tuple(int(number) for number in fields["DimSize"].split())
    if len(shape) != axes:
        raise ValueError("DimSize")
    kind = fields["ElementType"].removesuffix("_ARRAY")
    if kind not in _TYPES:
        raise UnreadableError("the image has an element type that is not supported")
    msb = fields.get("ElementByteOrderMSB", fields.get("BinaryDataByteOrderMSB", "False"))
    dtype = np.dtype((">" if _is_true(msb) else "<") + _TYPES[kind])
    compression = "zlib" if _is_true(fields.get("CompressedData", "False")) else ""
    if fields.get("BinaryData", "True")[:1] in "Ff0":
        compression = "text"
    skipped = int(fields.get("HeaderSize", "0"))
    if fields[_DATA].upper() == "LOCAL":
        place, start = path, end
    else:
        place, start = file_beside(path, os.fsdecode(fields[_DATA].encode("utf-8", "surrogateescape"))), skipped
    channels = int(fields.get("ElementNumberOfChannels", "1"))
    block = RawBlock(place, None if skipped < 0 else start, shape, channels, dtype, compression)
    spacing = _numbers(fields, ("ElementSpacing", "ElementSize"), [1.0] * axes)
    matrix = _numbers(fields, ("TransformMatrix", "Rotation", "Orientation"), [*np.eye(axes).ravel()])
    origin = _numbers(fields, ("Offset", "Position", "Origin"), [0.0] * axes)
    rows = [matrix[axis * axes : (axis + 1) * axes] for axis in range(axes)]
    directions = [[number * length for number in row] for row, length in zip(rows, spacing, strict=True)]
    return RawVolume(block, directions, origin)


def _numbers(fields: Mapping[str, str], names: tuple[str, ...], default: list[float]) -> list[float]:
    """The numbers of the first field that is there."""
    text = next((fields[name] for name in names if name in fields), None)
    numbers = default if text is None else [float(word) for word in text.split()]
    if len(numbers) != len(default):
        raise ValueError(names[0])
    return numbers


def _is_true(text: str) -> bool:
    return text[:1] in ("T", "t", "1")
