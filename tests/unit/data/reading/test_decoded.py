from __future__ import annotations

import gzip
import io
import zlib

import numpy as np
import pytest

from monai_anat.data.reading.decoded import (
    MAX_PIXELS,
    Decoded,
    UnreadableError,
    check_size,
    check_total_size,
    inflate,
    is_strip,
)
from monai_anat.data.reading.orientation import Turn


def test_sizes_that_no_radiograph_has() -> None:
    check_size(4000, 5000)
    for height, width in ((0, 5), (MAX_PIXELS, 2)):
        with pytest.raises(UnreadableError):
            check_size(height, width)


def test_the_product_of_all_axes_counts() -> None:
    check_total_size((1000, 1000, 100))
    with pytest.raises(UnreadableError, match="100001000000 values over all axes"):
        check_total_size((1000, 1000, 100_001))
    with pytest.raises(UnreadableError, match="no pixels"):
        check_total_size((1000, 0))


@pytest.mark.parametrize("pack", [zlib.compress, gzip.compress])
def test_streams_unpack_up_to_the_limit(pack) -> None:
    content = bytes(range(256)) * 40_000
    assert inflate(io.BytesIO(pack(content)), len(content)) == content
    for most in (len(content) - 1, 10):
        with pytest.raises(UnreadableError, match=f"more than {most} bytes"):
            inflate(io.BytesIO(pack(content)), most)
    with pytest.raises(EOFError):
        inflate(io.BytesIO(pack(content)[:-20]))
    with pytest.raises(zlib.error):
        inflate(io.BytesIO(b"no stream at all"))


def test_members_of_a_gzip_file_are_joined_and_padding_is_ignored() -> None:
    assert inflate(io.BytesIO(gzip.compress(b"ab") + gzip.compress(b"cd"))) == b"abcd"
    assert inflate(io.BytesIO(zlib.compress(b"ab") + b"\0")) == b"ab"


def test_strips() -> None:
    assert is_strip(3000, 1) and is_strip(1, 3000) and not is_strip(400, 100)


def test_the_stored_picture_of_a_turned_image() -> None:
    stored = Decoded(np.zeros((3, 5)), turn=Turn(transpose=True)).stored
    assert stored.shape == (5, 3) and stored.turn.transpose
