"""Image size in the headers of JPEG, JPEG-LS and JPEG 2000 streams (ITU T.81 B.2.2, T.87 C.2.2, T.800 A.5.1).

Decoders return as many bytes as the stream holds. If the DICOM header states other numbers of rows, columns or colors,
reshaping these bytes silently gives a wrong picture.
"""

from __future__ import annotations

import struct

__all__ = [
    "stream_shape",
]

_NO_FRAME_HEADER = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def stream_shape(stream: bytes) -> tuple[int, int, int] | None:
    """Read the numbers of rows, columns and colors.

    Args:
        stream: one compressed frame.

    Returns:
        Rows, columns and colors, or None if the stream has another format, ends early, or does not state its rows.

    >>> stream_shape(bytes.fromhex("ffd8ffc0000b080010002001011100"))
    (16, 32, 1)
    """
    try:
        if stream[:2] == b"\xff\xd8":
            return _jpeg_shape(stream)
        start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)  # the boxes of a .jp2 file may precede it
        if start < 0:
            return None
        right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
        (colors,) = struct.unpack_from(">H", stream, start + 40)
    except (struct.error, IndexError):
        return None
    return bottom - top, right - left, colors


def _jpeg_shape(stream: bytes) -> tuple[int, int, int] | None:
    """Go from marker to marker up to the frame header."""
    place = 2
    while stream[place] == 0xFF:
        marker = stream[place + 1]
        if marker == 0xFF or marker in _ALONE:
            place += 1 if marker == 0xFF else 2
            continue
        if (0xC0 <= marker <= 0xCF and marker not in _NO_FRAME_HEADER) or marker == 0xF7:
            rows, columns, colors = struct.unpack_from(">HHB", stream, place + 5)
            return (rows, columns, colors) if rows and columns else None
        place += 2 + int(struct.unpack_from(">H", stream, place + 2)[0])
    return None
