"""Masks from run lengths and polygons, as public data sets store them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from monai_anat.data.items import DatalistError

__all__ = ["polygon_mask", "run_length_mask"]


def run_length_mask(codes: Sequence[str], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Decode the run lengths of the SIIM-ACR challenge and unite them.

    A code is a list of pairs: the gap since the end of the previous run, and the length of the run, counted down the
    columns. ``-1`` is an empty mask. This differs from the absolute starts of other sets.

    Args:
        codes: codes of one image, one per region.
        shape: rows and columns of the image.

    Returns:
        uint8 (H, W) with 0 and 1.

    Raises:
        DatalistError: if a code is no list of pairs, or is longer than the image.

    >>> run_length_mask(["1 2 3 1"], (4, 4)).T.ravel().nonzero()[0].tolist()
    [1, 2, 6]
    """
    flat = np.zeros(shape[0] * shape[1], np.uint8)
    for code in codes:
        if code.strip() == "-1":
            continue
        try:
            numbers = [int(word) for word in code.split()]
        except ValueError:
            numbers = []
        if not numbers or len(numbers) % 2 or min(numbers) < 0:
            raise DatalistError(f"run lengths must be pairs of whole numbers, or -1, got {code[:60]!r}")
        if sum(numbers) > len(flat):
            raise DatalistError(
                f"run lengths must fit into the image, got {sum(numbers)} pixels for {shape[0]} x {shape[1]}"
            )
        place = 0
        for gap, length in zip(numbers[::2], numbers[1::2], strict=True):
            flat[place + gap : place + gap + length] = 1
            place += gap + length
    return flat.reshape(shape[1], shape[0]).T.copy()


def polygon_mask(polygons: Sequence[Sequence[Sequence[float]]], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Fill polygons and unite them. Pixels on an outline count as inside.

    Args:
        polygons: lists of points (x, y) in pixels.
        shape: rows and columns of the image.

    Returns:
        uint8 (H, W) with 0 and 1.

    Raises:
        DatalistError: if a polygon has fewer than three points, or a point is no pair of numbers.

    >>> int(polygon_mask([[(1, 1), (3, 1), (3, 3), (1, 3)]], (5, 5)).sum())
    9
    """
    mask = Image.new("L", (shape[1], shape[0]))
    pen = ImageDraw.Draw(mask)
    for polygon in polygons:
        try:
            points = [(float(x), float(y)) for x, y in polygon]
        except (TypeError, ValueError):
            points = []
        if len(points) < 3:
            raise DatalistError(f"a polygon must have at least three points (x, y), got {str(polygon)[:60]}")
        pen.polygon(points, fill=1, outline=1)
    return np.asarray(mask).copy()
