"""Contact sheet of radiographs, to check at a glance that all are chests, upright, with bright bones."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

__all__ = [
    "draw_contact_sheet",
]


def draw_contact_sheet(
    pictures: Iterable[tuple[str, NDArray[np.uint8]]], tile: int = 128, columns: int = 10
) -> Image.Image:
    """Draw pictures in rows, each with its caption.

    Args:
        pictures: captions (numbers, never names) and pictures, uint8 (H, W).
        tile: side of a tile in pixels.
        columns: number of tiles per row.

    Returns:
        Gray image.

    >>> draw_contact_sheet([("0", np.zeros((20, 10), np.uint8))], tile=16, columns=2).size
    (32, 16)
    """
    entries = list(pictures)
    rows = max(1, -(-len(entries) // columns))
    sheet = Image.new("L", (columns * tile, rows * tile))
    pen = ImageDraw.Draw(sheet)
    for number, (caption, values) in enumerate(entries):
        picture = Image.fromarray(np.ascontiguousarray(values))
        picture.thumbnail((tile, tile))
        left, top = number % columns * tile, number // columns * tile
        sheet.paste(picture, (left, top))
        pen.text((left + 3, top + 2), caption, fill=255, stroke_width=1, stroke_fill=0)
    return sheet
