from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from monai_anat.data.reading.codestream import stream_shape


def _packed(kind: str, colors: int, **options: object) -> bytes:
    handle = io.BytesIO()
    values = np.zeros((40, 24, 3) if colors == 3 else (40, 24), np.uint8)
    Image.fromarray(values).save(handle, kind, **options)
    return handle.getvalue()


@pytest.mark.parametrize("colors", [1, 3])
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("JPEG", {}),
        ("JPEG", {"progressive": True, "comment": b"SOF \xff\xc0 in a comment"}),
        ("JPEG2000", {}),
        ("JPEG2000", {"no_jp2": True}),
    ],
)
def test_rows_columns_and_colors(kind: str, options: dict[str, object], colors: int) -> None:
    assert stream_shape(_packed(kind, colors, **options)) == (40, 24, colors)


def test_nearly_lossless_and_fill_bytes() -> None:
    assert stream_shape(bytes.fromhex("ffd8fffffff7000b080010002001011100")) == (16, 32, 1)


@pytest.mark.parametrize("stream", [b"", b"\xff\xd8", b"\xff\xd8\xff", bytes(100), b"\xff\x4f\xff\x51" + bytes(10)])
def test_streams_without_a_size_return_none(stream: bytes) -> None:
    assert stream_shape(stream) is None
    assert stream_shape(bytes.fromhex("ffd8ffc0000b080000002001011100")) is None  # rows are said later
