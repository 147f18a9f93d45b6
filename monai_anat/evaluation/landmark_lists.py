"""Landmarks of a datalist: listed, derived from lung masks, or read from contour files.

The items of a landmark datalist list the position of each landmark::

    {"test": [{"image": "a.png", "patient": "p1", "landmarks": {"right apex": [31, 70.5], "left apex": [30, 160]}}]}

Rows and columns are in pixels of the stored image; the center of its first pixel is (0, 0). A landmark that is not
visible is omitted. "right" and "left" are the patient's. Two names that differ in that word only form a pair, for which
confusions are counted. ``thorax_width``, in pixels, is optional. Without it the width is the distance of the two
lateral extremes, and unknown if they are missing.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from monai_anat.data.items import DatalistError, file_of
from monai_anat.data.lists.folder_walk import is_image_file
from monai_anat.data.reading.masks import align_mask, read_mask
from monai_anat.data.reading.orientation import StoredPicture, turn_points
from monai_anat.data.reading.radiograph import read_radiograph
from monai_anat.evaluation.feature_store import image_key
from monai_anat.keys import IMAGE, LABEL
from monai_anat.metrics.landmarks import LUNG_LANDMARKS, lung_landmarks

__all__ = [
    "THORAX_WIDTH",
    "LandmarkSet",
    "contour_datalist",
    "from_image",
    "has_landmarks",
    "has_mask",
    "load_landmarks",
    "read_contour",
    "to_image",
]

LANDMARKS = "landmarks"
THORAX_WIDTH = "thorax_width"
_EXTREMES = ("right lateral extreme", "left lateral extreme")
_NUMBER = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


@dataclass(frozen=True)
class LandmarkSet:
    """Landmarks of N images.

    Attributes:
        names: names of the K landmarks.
        points: (N, K, 2) row and column in pixels of the upright image, NaN if absent.
        shapes: (N, 2) height and width of each image in pixels.
        widths: (N,) thorax width in pixels, NaN if unknown.
        spacings: (N, 2) pixel spacing (row, column) in mm, NaN if unknown.
        aspects: (N,) height of a pixel divided by its width, 1 if unknown.
        mirror: (K,) index of the landmark on the other side; its own index if there is none.
        notes: sentences on what was left out.
    """

    names: tuple[str, ...]
    points: NDArray[np.float64]
    shapes: NDArray[np.int64]
    widths: NDArray[np.float64]
    spacings: NDArray[np.float64]
    aspects: NDArray[np.float64]
    mirror: NDArray[np.int64]
    notes: tuple[str, ...] = ()


def load_landmarks(datalist: Sequence[Mapping[str, Any]]) -> LandmarkSet:
    """Read the landmarks of every item: its ``landmarks``, or those of its lung mask ``label``.

    Args:
        datalist: items with ``landmarks``, or with masks in which 1 is the right lung and 2 the left. A mask may also
            be a list of two binary masks, ``[right, left]``.

    Raises:
        DatalistError: if an item has neither, a landmark lies outside its image, a mask differs in size from its image,
            or no image shows any landmark.

    >>> from monai_anat.data import segmentation_datalist
    >>> found = load_landmarks(segmentation_datalist("test")[:3])
    >>> found.points.shape, found.names[0], found.names[found.mirror[0]]
    ((3, 6, 2), 'right apex', 'left apex')
    """
    names = _names(datalist)
    points, shapes, spacings, aspects, widths = [], [], [], [], []
    for item in datalist:
        picture, spacing, aspect = _image_facts(str(item[IMAGE]), image_key(item[IMAGE]))
        own = _written(item, names, picture) if LANDMARKS in item else _from_mask(item, names, picture)
        points.append(own)
        shapes.append(picture.turn.shape(picture.shape))
        spacings.append(spacing)
        aspects.append(aspect)
        widths.append(_thorax_width(item) if item.get(THORAX_WIDTH) is not None else _width(own, names))
    stacked = np.stack(points)
    absent: NDArray[np.bool_] = np.asarray(np.isnan(stacked).any(axis=2))
    if absent.all():
        raise DatalistError(
            f"datalist must show at least one landmark, got none in {len(datalist)} images: the masks are empty, or "
            "the landmarks are cut off by the image border"
        )
    if not any(LANDMARKS in item for item in datalist):
        for side, number in (("right", 1), ("left", 2)):
            if absent[:, [place for place, name in enumerate(names) if name.startswith(side)]].all():
                raise DatalistError(
                    f"at least one mask must show the {side} lung (class {number}), got none in {len(datalist)}; "
                    "landmarks need masks that distinguish the lungs and are not cut off"
                )
    notes = []
    empty = [
        Path(str(item[IMAGE])).name for item, gone in zip(datalist, np.asarray(absent.all(axis=1)), strict=True) if gone
    ]
    if empty:
        notes.append(f"{len(empty)} images show no landmark at all and are left out: {', '.join(empty[:5])}.")
    if absent.any():
        notes.append(f"{int(absent.sum())} of {absent.size} landmarks are absent or cut off by the image border.")
    mirror = np.array(
        [names.index(_other_side(name)) if _other_side(name) in names else k for k, name in enumerate(names)]
    )
    return LandmarkSet(
        names,
        stacked,
        np.array(shapes),
        np.array(widths),
        np.array(spacings, dtype=float),
        np.array(aspects),
        mirror,
        tuple(notes),
    )


def read_contour(path: str | os.PathLike[str], *, order: str = "xy") -> NDArray[np.float64]:
    """Read the points of a contour file.

    Args:
        path: ``.npy`` (K, 2), ``.json`` (a list of pairs), or text (``.txt``, ``.csv``, ``.pts``) with one point per
            line, "nan nan" for one that is not visible; lines before the first point are headings.
        order: "xy" (column first, as in most contour files) or "rc" (row first).

    Returns:
        (K, 2) row and column.

    Raises:
        DatalistError: if the file holds no points.
        ValueError: if ``order`` is unknown.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "lung.txt"
    ...     _ = path.write_text("points 2\\n10 20\\n11.5,22\\n")
    ...     read_contour(path).tolist()
    [[20.0, 10.0], [22.0, 11.5]]
    """
    if order not in ("xy", "rc"):
        raise ValueError(f"order must be 'xy' or 'rc', got {order!r}")
    file = Path(path)
    if not file.is_file():
        raise DatalistError(f"contour file {file} must exist; check the names of the folder and of the image")
    try:
        if file.suffix == ".npy":
            values: Any = np.load(file, allow_pickle=False)
        elif file.suffix == ".json":
            values = json.loads(file.read_text(encoding="utf-8"))
        else:
            values = _points_of_lines(file)
        points = np.asarray(values, dtype=np.float64)
    except DatalistError:
        raise
    except (TypeError, ValueError):
        raise DatalistError(f"contour file {file} must hold points of two numbers each, and nothing else") from None
    if points.ndim != 2 or points.shape[1] != 2:
        raise DatalistError(f"contour file {file} must hold points of two numbers each, got shape {points.shape}")
    return points[:, ::-1].copy() if order == "xy" else points


def _points_of_lines(file: Path) -> list[list[float]]:
    """Read the points of a text file. An invalid line between points is an error, since it would shift the others."""
    points: list[list[float]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        cells = [cell for cell in re.split(r"[,;\s]+", line.strip().lower()) if cell]
        if len(cells) == 2 and all(cell == "nan" or _NUMBER.fullmatch(cell) for cell in cells):
            points.append([float(cell) for cell in cells])
        elif points and line.strip() not in ("", "}"):
            raise DatalistError(
                f"contour file {file} must hold two numbers in line {number}, got {line.strip()!r}; write 'nan nan' "
                "for a point that cannot be seen"
            )
    return points


def contour_datalist(
    datalist: Sequence[Mapping[str, Any]],
    folders: Mapping[str, str | os.PathLike[str]],
    *,
    points: Mapping[str, Sequence[int]] | None = None,
    annotated_size: tuple[int, int] | None = None,
    order: str = "xy",
    suffix: str = ".npy",
) -> list[dict[str, Any]]:
    """Convert contours with corresponding points to a landmark datalist.

    Examples are the outlines of shape models, such as those of lungs and heart for JSRT, Montgomery, Shenzhen and
    PadChest: point 7 of the right lung is the same anatomical place in every patient.

    Args:
        datalist: the images. The contour of ``x/a.png`` is ``<folder>/a<suffix>``.
        folders: structure, such as "right lung" -> folder with its contours.
        points: structure -> indices of the points to use; all by default.
        annotated_size: height and width of the image that was annotated, if it differs from the stored one.
        order: order of the two numbers, see :func:`read_contour`.
        suffix: ending of the contour files.

    Returns:
        The items with ``landmarks`` named "right lung 0", "right lung 1", ..., and with the ``thorax_width`` of the
        contours with "lung" in their names, if there are any.

    Raises:
        DatalistError: if a contour is missing or has too few points.
    """
    items = []
    for item in datalist:
        landmarks: dict[str, list[float]] = {}
        lungs: list[float] = []
        scale = np.ones(2)
        if annotated_size is not None:
            scale = np.array(_image_facts(str(item[IMAGE]), image_key(item[IMAGE]))[0].shape) / np.array(annotated_size)
        for structure, folder in folders.items():
            file = Path(folder) / f"{Path(str(item[IMAGE])).stem}{suffix}"
            contour = (read_contour(file, order=order) + 0.5) * scale - 0.5
            wanted = range(len(contour)) if points is None or structure not in points else points[structure]
            if max(wanted, default=0) >= len(contour):
                raise DatalistError(f"{file} must have point {max(wanted)}, got {len(contour)} points")
            landmarks |= {
                f"{structure} {number}": contour[number].tolist()
                for number in wanted
                if np.isfinite(contour[number]).all()
            }
            lungs += contour[:, 1].tolist() if "lung" in structure.lower() else []
        width = float(np.ptp(np.array(lungs)[np.isfinite(lungs)])) if np.isfinite(lungs).any() else None
        items.append({**item, LANDMARKS: landmarks, **({THORAX_WIDTH: width} if width else {})})
    return items


def to_image(points: ArrayLike, shapes: ArrayLike, size: int) -> NDArray[np.float64]:
    """Convert pixels of the image to pixels of its square version. Pixel centers are whole numbers.

    Args:
        points: (..., 2) row and column.
        shapes: (..., 2) height and width of the image.
        size: side of the square version.

    >>> to_image([[0.5, 1.5]], [2, 4], 8).tolist()
    [[3.5, 3.5]]
    """
    pixels: NDArray[np.float64] = (np.asarray(points, dtype=float) + 0.5) * size / np.asarray(shapes, dtype=float) - 0.5
    return pixels


def from_image(points: ArrayLike, shapes: ArrayLike, size: int) -> NDArray[np.float64]:
    """Invert :func:`to_image`."""
    pixels: NDArray[np.float64] = (np.asarray(points, dtype=float) + 0.5) * np.asarray(shapes, dtype=float) / size - 0.5
    return pixels


def has_mask(item: Mapping[str, Any], label_key: str = LABEL) -> bool:
    """Say whether the label of an item is a mask, and not a class number or names of findings.

    Args:
        item: datalist item.
        label_key: key of the label. It may be a list with one mask per class.

    >>> has_mask({"image": "a.png", "label": "a_mask.png"}), has_mask({"image": "a.png", "label": "Edema|Mass"})
    (True, False)
    """
    label = item.get(label_key)
    files = label if isinstance(label, (list, tuple)) and label else [label]
    return all(isinstance(file, (str, os.PathLike)) and is_image_file(file_of(str(file))) for file in files)


def has_landmarks(item: Mapping[str, Any]) -> bool:
    """Say whether an item has landmarks, or a mask to derive them from."""
    return LANDMARKS in item or has_mask(item)


def _names(datalist: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    names: dict[str, None] = {}
    for item in datalist:
        if LANDMARKS in item:
            if not isinstance(item[LANDMARKS], Mapping):
                raise DatalistError(
                    f"{LANDMARKS!r} must be names with their [row, column], got {item[LANDMARKS]!r} for "
                    f"{item.get(IMAGE)}"
                )
            names |= dict.fromkeys(item[LANDMARKS])
        elif has_mask(item):
            names |= dict.fromkeys(LUNG_LANDMARKS)
        else:
            raise DatalistError(
                f"every item must have {LANDMARKS!r}, or {LABEL!r} with the path of a lung mask, got {sorted(item)} "
                f"for {item.get(IMAGE)}"
            )
    return tuple(names)


# several protocols and baselines need the same landmarks: a few numbers per file are cached
@functools.lru_cache(maxsize=16384)
def _image_facts(path: str, key: str) -> tuple[StoredPicture, tuple[float, float], float]:
    """Stored size and orientation, spacing in mm, and aspect of the pixels; ``key`` changes with the file."""
    radiograph = read_radiograph(path)
    aspect = float(radiograph.info.get("pixel_aspect", 1.0))
    picture = radiograph.stored or StoredPicture((radiograph.pixels.shape[0], radiograph.pixels.shape[1]))
    return picture, radiograph.spacing or (np.nan, np.nan), aspect


@functools.lru_cache(maxsize=16384)
def _mask_landmarks(paths: tuple[str, ...], keys: tuple[str, ...], picture: StoredPicture) -> NDArray[np.float64]:
    """Landmarks (K, 2) of a lung mask, in pixels of the upright image."""
    mask = align_mask(read_mask(paths), picture, paths[0])
    found = np.unique(mask)
    if not np.isin(found, (0, 1, 2)).all():
        raise DatalistError(
            f"{paths[0]} must hold the class numbers 0, 1 (right lung) and 2 (left lung), got "
            f"{[int(number) for number in found[:5]]}; write them so, or give the landmarks themselves"
        )
    return lung_landmarks(torch.as_tensor(mask.astype(np.int64))).numpy()


def _from_mask(item: Mapping[str, Any], names: Sequence[str], picture: StoredPicture) -> NDArray[np.float64]:
    label = item[LABEL]
    paths = tuple(str(path) for path in (label if isinstance(label, (list, tuple)) else [label]))
    landmarks = _mask_landmarks(paths, tuple(image_key(path) for path in paths), picture)
    points = np.full((len(names), 2), np.nan)
    points[[names.index(name) for name in LUNG_LANDMARKS]] = landmarks
    return points


def _written(item: Mapping[str, Any], names: Sequence[str], picture: StoredPicture) -> NDArray[np.float64]:
    """Landmarks listed in an item, rotated upright together with its image."""
    shape = picture.shape
    points = np.full((len(names), 2), np.nan)
    for name, place in item[LANDMARKS].items():
        try:
            row, column = (float(value) for value in place)
        except (TypeError, ValueError):
            raise DatalistError(f"landmark {name!r} of {item[IMAGE]} must be [row, column], got {place}") from None
        if not (-0.5 <= row <= shape[0] - 0.5 and -0.5 <= column <= shape[1] - 0.5):
            raise DatalistError(
                f"landmark {name!r} must lie inside its image, got row {row:g}, column {column:g} in an image of "
                f"{shape[0]} x {shape[1]} ({item[IMAGE]}); is the order [row, column], and the size the stored one?"
            )
        points[names.index(name)] = row, column
    return turn_points(points, picture)


def _thorax_width(item: Mapping[str, Any]) -> float:
    try:
        width = float(item[THORAX_WIDTH])
    except (TypeError, ValueError):
        width = 0.0
    if not 0 < width < float("inf"):
        raise DatalistError(
            f"{THORAX_WIDTH} must be a positive number of pixels, got {item[THORAX_WIDTH]!r} for {item[IMAGE]}; leave "
            "it out where it is unknown"
        )
    return width


def _width(points: NDArray[np.float64], names: Sequence[str]) -> float:
    if all(name in names for name in _EXTREMES):
        right, left = (points[names.index(name), 1] for name in _EXTREMES)
        return float(abs(left - right)) or float("nan")
    return float("nan")


def _other_side(name: str) -> str:
    swap = {"right": "left", "left": "right"}
    return re.sub(r"\b(right|left)\b", lambda match: swap[match.group()], name)
