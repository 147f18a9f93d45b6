"""Figures of evaluation pages and their captions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from monai_anat.data.items import file_of
from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.evaluation.results import Result

__all__ = ["ReportFigure", "case_captions", "files_exist", "is_file", "point_array", "small_radiograph"]

_SIDE = 320  # pixels of the long side of a radiograph on a page


@dataclass(frozen=True)
class ReportFigure:
    """A figure of a report.

    Attributes:
        figure: the figure.
        caption: what it shows; also its alternative text.
        dpi: pixels per inch.
    """

    figure: Figure
    caption: str = ""
    dpi: int = 110


def case_captions(result: Result) -> dict[str, str]:
    """Return a caption with the score for each case of a result."""
    unit = next((metric.unit for metric in result.metrics.values()), "")
    return {place: f"{place} case, {case['score']:.3f} {unit}".strip() for place, case in result.cases.items()}


def files_exist(cases: Mapping[str, Any], *keys: str) -> bool:
    """Say whether a case has these keys, each with the path of an existing file.

    >>> files_exist({"image": "gone.png"}, "image"), files_exist({}, "image")
    (False, False)
    """
    return all(key in cases and is_file(cases[key]) for key in keys)


def is_file(path: str) -> bool:
    """Say whether the file of an item's path exists."""
    return Path(file_of(path)).is_file()


def small_radiograph(path: str) -> tuple[NDArray[np.float32], float]:
    """Read a radiograph at the size of a page.

    Args:
        path: image file.

    Returns:
        The image, and the factor from its stored pixels.
    """
    pixels = read_radiograph(path).pixels
    scale = min(1.0, _SIDE / max(pixels.shape))
    shape = [max(1, round(side * scale)) for side in pixels.shape]
    small = Image.fromarray(pixels).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32), scale


def point_array(points: Sequence[Sequence[float] | None]) -> NDArray[np.float64]:
    """Convert points of a JSON file to (K, 2), NaN where there is none."""
    return np.array([(np.nan, np.nan) if point is None else point for point in points], dtype=np.float64)
