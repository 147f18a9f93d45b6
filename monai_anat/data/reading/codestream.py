"""What a packed picture says of its own size: JPEG, JPEG-LS and JPEG 2000 (ITU T.81 B.2.2, T.87 C.2.2, T.800 A.5.1).

Decoders hand out as many bytes as the stream holds. A header that counts rows, columns or colors otherwise would
cut them into lines at the wrong places, without a word.
"""

from __future__ import annotations

import struct

__all__ = [
    "stream_shape",
]

_NO_FRAME_HEADER = {0xC4, 0xC8, 0xCC}  # Huffman tables, reserved, arithmetic conditioning
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a length


def stream_shape(stream: bytes) -> tuple[int, int, int] | None:
    """Read rows, columns and colors; None where the stream is of another kind, cut off, or leaves its rows open.

    Args:
        stream: one packed frame.

    >>> stream_shape(bytes.fromhex("ffd8ffc0000b080010002001011100"))
    (16, 32, 1)
    """
    try:
        if stream[:2] == b"\xff\xd8":
            return _jpeg_shape(stream)
        start = stream.find(b"\xff\x4f\xff\x51", 0, 4096)  # a box of a .jp2 file may stand before it
        if start < 0:
            return None
        right, bottom, left, top = struct.unpack_from(">4I", stream, start + 8)
        (colors,) = struct.unpack_from(">H", stream, start + 40)
    except (struct.error, IndexError):
        return None
    return bottom - top, right - left, colors


def _jpeg_shape(stream: bytes) -> tuple[int, int, int] | None:
    """Walk from marker to marker as far as the frame header."""
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
