"""Pages of a TIFF file: how many there are, and which one is the image rather than its thumbnail."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from monai_anat.data.reading.decoded import UnreadableError

__all__ = ["MAX_PAGES", "TiffPage", "full_size_page", "tiff_pages"]

#: limit on the number of pages; files with more are refused
MAX_PAGES = 1000
_MAX_ENTRIES = 1000
_SIZES = {1: 1, 3: 2, 4: 4, 16: 8}  # bytes of the integer types BYTE, SHORT, LONG, LONG8
_SUBFILE, _WIDTH, _HEIGHT, _OLD_SUBFILE = 254, 256, 257, 255


@dataclass(frozen=True)
class TiffPage:
    """Facts about one page of a TIFF file.

    Attributes:
        height: number of rows.
        width: number of columns.
        is_reduced: whether the page is marked as a thumbnail, or as the transparency mask of another page.
    """

    height: int
    width: int
    is_reduced: bool = False


def tiff_pages(path: str | os.PathLike[str]) -> list[TiffPage]:
    """List the pages of a TIFF or BigTIFF file without reading any pixels.

    Args:
        path: the file.

    Raises:
        UnreadableError: if the file has more than ``MAX_PAGES`` pages, or its directories are damaged.
    """
    pages: list[TiffPage] = []
    with Path(path).open("rb") as file:
        try:
            head = file.read(16)
            order = "<" if head[:2] == b"II" else ">"
            is_big = struct.unpack_from(order + "H", head, 2)[0] == 43
            (place,) = struct.unpack_from(order + ("Q" if is_big else "I"), head, 8 if is_big else 4)
            seen: set[int] = set()
            while place and place not in seen:
                if len(pages) == MAX_PAGES:
                    raise UnreadableError(f"the TIFF has more than {MAX_PAGES} pages")
                seen.add(place)
                page, place = _read_page(file, place, order, is_big)
                pages.append(page)
        except (struct.error, OverflowError) as error:
            raise UnreadableError("the image is damaged or truncated: its TIFF directory ends early") from error
    return pages


def _read_page(file: BinaryIO, place: int, order: str, is_big: bool) -> tuple[TiffPage, int]:
    """One directory, and the place of the next one."""
    count_format, entry_bytes, next_format = ("Q", 20, "Q") if is_big else ("H", 12, "I")
    file.seek(place)
    (count,) = struct.unpack(order + count_format, file.read(struct.calcsize(order + count_format)))
    if count > _MAX_ENTRIES:
        raise UnreadableError("the image is damaged: its TIFF directory has too many entries")
    entries = file.read(count * entry_bytes)
    values: dict[int, int] = {}
    for number in range(count):
        tag, kind = struct.unpack_from(order + "HH", entries, number * entry_bytes)
        size = _SIZES.get(kind)
        if tag in (_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT) and size is not None:
            start = number * entry_bytes + (12 if is_big else 8)
            values[tag] = int.from_bytes(entries[start : start + size], "little" if order == "<" else "big")
    is_reduced = bool(values.get(_SUBFILE, 0) & 5) or values.get(_OLD_SUBFILE) == 2
    page = TiffPage(values.get(_HEIGHT, 0), values.get(_WIDTH, 0), is_reduced)
    after = file.read(struct.calcsize(order + next_format))
    return page, struct.unpack(order + next_format, after)[0] if len(after) == struct.calcsize(next_format) else 0


def full_size_page(pages: list[TiffPage]) -> int | None:
    """Choose the page that holds the image: the only one that is neither a thumbnail nor a reduced copy.

    Thumbnails and levels of a pyramid are marked as such, or are at most half as high and wide as the largest page.

    Args:
        pages: as :func:`tiff_pages` returns them.

    Returns:
        The number of the page, or None if several pages have full size.

    >>> full_size_page([TiffPage(24, 20), TiffPage(96, 80)]), full_size_page([TiffPage(96, 80), TiffPage(96, 80)])
    (1, None)
    """
    candidates = [number for number, page in enumerate(pages) if not page.is_reduced] or list(range(len(pages)))
    largest = max(candidates, key=lambda number: pages[number].height * pages[number].width)
    height, width = pages[largest].height, pages[largest].width
    others = [pages[number] for number in candidates if number != largest]
    return largest if all(2 * page.height <= height and 2 * page.width <= width for page in others) else None
