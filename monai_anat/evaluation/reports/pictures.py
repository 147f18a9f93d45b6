"""The best, the median and the worst case of a protocol, drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.evaluation.reports.report import ReportFigure
from monai_anat.visualize.correspondences import draw_correspondence
from monai_anat.visualize.segmentations import draw_segmentations

__all__ = ["case_pictures"]

_SIDE = 320  # pixels of the long side at which a page shows a radiograph


def case_pictures(result: Mapping[str, Any], encoder: str = "") -> list[ReportFigure]:
    """Draw the cases of a result that says what is needed: landmarks found in another patient, clusters, or masks.

    Args:
        result: what a protocol returned, with its files where they were.
        encoder: name for the captions.

    Returns:
        The pictures, best first; none for protocols without pictures, or if a file is gone.
    """
    cases = dict(result.get("cases", {}))
    unit = next((metric["unit"] for metric in result.get("metrics", {}).values()), "")
    captions = {place: f"{place} case, {case['score']:.3f} {unit}".strip() for place, case in cases.items()}
    lead = f"{encoder}: " if encoder else ""
    pictures = [
        ReportFigure(
            _landmarks(case, result.get("landmark_names")),
            f"{lead}{captions[place]}; dots: found; rings: the truth",
            80,
        )
        for place, case in cases.items()
        if "source" in case and _there(case["source"]["image"], case["target"]["image"])
    ]
    drawn = [place for place, case in cases.items() if "cells" in case and _there(case["image"])]
    if drawn:
        names = [captions[place] for place in drawn]
        figure = _cells([cases[place] for place in drawn], names, result["structure_names"])
        pictures.append(ReportFigure(figure, f"{lead}best, median and worst case"))
    drawn = [place for place, case in cases.items() if "masks" in case and _there(case["masks"])]
    if drawn:
        figure = _masks([cases[place] for place in drawn], [captions[place] for place in drawn], result)
        setting = f" of {cases[drawn[0]]['setting']}" if "setting" in cases[drawn[0]] else ""
        caption = f"{lead}best, median and worst case{setting}; dashed: the reader's outline"
        pictures.append(ReportFigure(figure, caption))
    return pictures


def _landmarks(case: Mapping[str, Any], names: Sequence[str] | None) -> Any:
    source, target = case["source"], case["target"]
    (image, scale), (other, other_scale) = _small(source["image"]), _small(target["image"])
    return draw_correspondence(
        image,
        _points(source["landmarks"]) * scale,
        other,
        _points(target["found"]) * other_scale,
        _points(target["landmarks"]) * other_scale,
        names,
    )


def _cells(cases: Sequence[Mapping[str, Any]], captions: Sequence[str], names: Sequence[str]) -> Any:
    images = [_small(case["image"])[0] for case in cases]
    masks = [
        np.asarray(
            Image.fromarray(np.asarray(case["cells"], dtype=np.uint8)).resize(
                image.shape[::-1], Image.Resampling.NEAREST
            )
        )
        for case, image in zip(cases, images, strict=True)
    ]
    return draw_segmentations(images, masks, class_names=names, captions=captions)


def _masks(cases: Sequence[Mapping[str, Any]], captions: Sequence[str], result: Mapping[str, Any]) -> Any:
    with np.load(cases[0]["masks"], allow_pickle=False) as file:
        images, masks, labels = (file[name] for name in ("images", cases[0]["arm"], "labels"))
    chosen = [case["index"] for case in cases]
    return draw_segmentations(images[chosen], masks[chosen], labels[chosen], result["structure_names"], captions)


def _there(*paths: str) -> bool:
    return all(Path(path.split("#")[0]).is_file() for path in paths)


def _small(path: str) -> tuple[NDArray[np.float32], float]:
    """A radiograph at the size of a page, and the factor from its own pixels."""
    pixels = read_radiograph(path).pixels
    scale = min(1.0, _SIDE / max(pixels.shape))
    shape = [max(1, round(side * scale)) for side in pixels.shape]
    small = Image.fromarray(pixels).resize((shape[1], shape[0]), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32), scale


def _points(points: Sequence[Sequence[float] | None]) -> NDArray[np.float64]:
    """(K, 2), NaN where a landmark is not there."""
    return np.array([(np.nan, np.nan) if point is None else point for point in points], dtype=np.float64)
