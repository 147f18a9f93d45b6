from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from monai_anat.data.reading.decoded import UnreadableError
from monai_anat.data.reading.tiff import MAX_PAGES, TiffPage, full_size_page, tiff_pages

PAGE = np.zeros((8, 6), np.uint8)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_pages_and_their_sizes(tmp_path: Path, options: dict[str, object]) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif", **options) as writer:
        writer.write(PAGE, contiguous=False)
        writer.write(PAGE[:4], subfiletype=1)
    assert tiff_pages(tmp_path / "a.tif") == [TiffPage(8, 6), TiffPage(4, 6, is_reduced=True)]


def test_the_full_size_page() -> None:
    full, small = TiffPage(8, 6), TiffPage(4, 3)
    assert full_size_page([full]) == 0
    assert full_size_page([small, full, TiffPage(2, 1)]) == 1
    assert full_size_page([full, TiffPage(8, 6, is_reduced=True)]) == 0
    assert full_size_page([full, full]) is None
    assert full_size_page([full, TiffPage(7, 5)]) is None
    assert full_size_page([TiffPage(8, 6, is_reduced=True)]) == 0


def test_endless_files_and_damaged_ones_are_refused(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "many.tif") as writer:
        for _ in range(MAX_PAGES + 1):
            writer.write(PAGE[:1, :1], contiguous=False)
    with pytest.raises(UnreadableError, match="more than 1000 pages"):
        tiff_pages(tmp_path / "many.tif")
    loop = b"II*\x00\x08\x00\x00\x00" + b"\x00\x00" + b"\x08\x00\x00\x00"
    (tmp_path / "loop.tif").write_bytes(loop)
    assert tiff_pages(tmp_path / "loop.tif") == [TiffPage(0, 0)]
    (tmp_path / "cut.tif").write_bytes(b"II*\x00\x08\x00\x00\x00\x05\x00\x00\x01")
    with pytest.raises(UnreadableError, match="directory ends early"):
        tiff_pages(tmp_path / "cut.tif")
    (tmp_path / "wide.tif").write_bytes(b"II*\x00\x08\x00\x00\x00\xff\xff")
    with pytest.raises(UnreadableError, match="too many entries"):
        tiff_pages(tmp_path / "wide.tif")
