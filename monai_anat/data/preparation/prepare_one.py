"""Preparation of one file: decode, judge, resize, hash."""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_anat.data.items import file_of
from monai_anat.data.lists.mask_content import looks_like_mask
from monai_anat.data.preparation.candidates import Candidate
from monai_anat.data.preparation.identity import keyed_hash
from monai_anat.data.preparation.thumbnails import thumbnail_of
from monai_anat.data.reading.decoded import Decoded, is_strip
from monai_anat.data.reading.dicom_view import view_in_words
from monai_anat.data.reading.radiograph import RadiographError, decode
from monai_anat.data.reading.shards import image_digest

__all__ = ["Outcome", "Task", "judge", "prepare_file", "prepared_spacing", "source_hash", "to_size"]

_BLANK_STD = 0.01
_SMALLEST = 32
_RADIOGRAPHS = {None, "CR", "DX", "RG", "RF", "OT", "SC"}
#: directions of a frontal view
_FRONTAL = frozenset(("PA", "AP", "FRONTAL"))
#: cells of a table without information
_UNSAID = frozenset(("", "UNKNOWN", "NOT KNOWN", "N/A", "NA", "NAN", "NONE", "NULL", "UNSPECIFIED", "-", "?"))
#: positions of the patient for frontal views; a cross-table lateral view is named in addition
_POSITIONS = frozenset(("SUPINE", "ERECT", "UPRIGHT", "STANDING", "SITTING", "PORTABLE", "BEDSIDE"))


@dataclass(frozen=True)
class Task:
    """One candidate and what a worker process must know to prepare it.

    Attributes:
        position: number of the candidate in the source.
        candidate: the file.
        source: keyed hash of the file, by which a later run finds it done.
        key: key from ``load_key``.
        size: short side of the prepared image in pixels.
        view: ``frontal`` or ``lateral`` sets aside other views, modalities and body parts; ``any`` takes all.
    """

    position: int
    candidate: Candidate
    source: str
    key: bytes
    size: int
    view: str


@dataclass(frozen=True)
class Outcome:
    """Result of one candidate, without anything that identifies a person.

    Attributes:
        position: number of the candidate in the source.
        source: keyed hash of the file.
        reason: why the file was set aside; empty for an image that was taken.
        pixels: uint8 (H, W) at the prepared size.
        record: fields of the index and of the datalist.
        thumbnail: uint8 (16, 16).
    """

    position: int
    source: str
    reason: str = ""
    pixels: NDArray[np.uint8] | None = None
    record: dict[str, Any] | None = None
    thumbnail: NDArray[np.uint8] | None = None


def source_hash(candidate: Candidate, key: bytes) -> str:
    """Hash a file's path, size and time of change, and what the list has on it: it changes when one of them does.

    Args:
        candidate: the file.
        key: key from ``load_key``.
    """
    listed = f"{candidate.patient}\0{candidate.view}\0{candidate.split}\0{candidate.label}"
    try:
        status = Path(file_of(candidate.path)).stat()
    except OSError:
        return keyed_hash(key, f"{candidate.path}\0{listed}")
    return keyed_hash(key, f"{candidate.path}\0{status.st_size}\0{status.st_mtime_ns}\0{listed}")


def prepare_file(task: Task) -> Outcome:
    """Decode one file, judge it, and resize it.

    Args:
        task: the file and the settings.

    Returns:
        The outcome. A file that cannot be read is an outcome with a reason, not an exception.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote tags
    candidate = task.candidate
    if candidate.reason:
        return Outcome(task.position, task.source, candidate.reason)
    try:
        decoded = decode(candidate.path)
    except RadiographError as error:
        return Outcome(task.position, task.source, error.reason)
    reason = judge(decoded, candidate.view, task.view)
    if reason:
        return Outcome(task.position, task.source, reason)
    pixels, grown = to_size(decoded, task.size)
    patient = candidate.patient or decoded.patient
    height, width = decoded.info["original_size"]
    record = {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "original_height": int(height),
        "original_width": int(width),
        "spacing": prepared_spacing(decoded, min(pixels.shape)),
        "kind": str(decoded.info["kind"])[:6],
        "view": _fixed_words(candidate.view or "") or decoded.info.get("view") or "",
        "split": candidate.split or "",
        "position": task.position,
        "pixels": image_digest(pixels),
        "group": keyed_hash(task.key, patient if patient else f"file {task.source}"),
        "patient_known": bool(patient),
        "grown": grown,
        "label": candidate.label,
    }
    return Outcome(task.position, task.source, "", pixels, record, thumbnail_of(pixels))


def judge(decoded: Decoded, listed_view: str | None, wanted_view: str) -> str:
    """Return why a decoded image is not used for training, or an empty text.

    Args:
        decoded: the image.
        listed_view: its projection by the list.
        wanted_view: ``frontal``, ``lateral`` or ``any``.
    """
    height, width = decoded.pixels.shape
    if min(height, width) < _SMALLEST:
        return f"the image is tiny: {height} x {width} pixels"
    true_height = height * float(decoded.info.get("pixel_aspect", 1.0))
    if is_strip(true_height, width):
        return f"the image is a strip: {height} x {width} pixels"
    if wanted_view != "any":
        reason = _other_view(decoded, listed_view or "", wanted_view)
        if reason:
            return reason
    # the middle: a border or a burned-in mark must not make a blank image look busy
    middle = decoded.pixels[height // 8 : height - height // 8, width // 8 : width - width // 8]
    if float(middle[:: max(1, height // 256), :: max(1, width // 256)].std()) < _BLANK_STD:
        return "the image is blank"
    if looks_like_mask(decoded.pixels):
        return "the picture has few gray values, like a mask"
    return ""


def _other_view(decoded: Decoded, listed_view: str, wanted_view: str) -> str:
    """Return why an image is not the wanted view of a chest, or an empty text."""
    modality = decoded.info.get("modality")
    if modality not in _RADIOGRAPHS:
        return f"modality {modality} is no plain radiograph of a chest"
    if decoded.info.get("body_part") == "other":
        return "the body part is not the chest"
    kind = _kind_of_view(listed_view or str(decoded.info.get("view") or ""))
    if kind == "unknown":
        # the message does not quote the words, which may name a person
        return f"the list names a view that is not known to be {wanted_view}"
    if kind not in ("", wanted_view):
        return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind} view where {wanted_view} was asked for"
    return ""


def _kind_of_view(view: str) -> str:
    """Return ``frontal``, ``lateral``, ``oblique``, ``unknown`` for other words, or an empty text for none."""
    words = set(re.split(r"[^A-Z]+", view.upper()))
    if words & {"OBL", "OBLIQUE", "LAO", "RAO", "LPO", "RPO"}:
        return "oblique"
    frontal, lateral = words & _FRONTAL, words & {"L", "LL", "RL", "LAT", "LLAT", "RLAT", "LATERAL"}
    if bool(frontal) != bool(lateral):
        return "frontal" if frontal else "lateral"
    found = view_in_words(view)
    if found is None:
        if words <= _POSITIONS | {""} and words & _POSITIONS:
            return "frontal"
        return "" if view.strip().upper() in _UNSAID else "unknown"
    return "frontal" if found in _FRONTAL else found.lower()


def _fixed_words(view: str) -> str:
    """Return a listed projection in the words of ``view_of``: the text of a table may name a person."""
    named = {"frontal": "FRONTAL", "lateral": "LATERAL", "oblique": "OBLIQUE"}
    return view_in_words(view) or named.get(_kind_of_view(view), "")


def to_size(decoded: Decoded, size: int) -> tuple[NDArray[np.uint8], bool]:
    """Resize so that the short side is ``size`` and the body keeps its true proportions.

    Shrinking averages by area; growing is bilinear.

    Args:
        decoded: the image, float in [0, 1].
        size: length of the short side in pixels.

    Returns:
        uint8 (H, W), and whether the image was grown.
    """
    height, width = decoded.pixels.shape
    true_height = height * float(decoded.info.get("pixel_aspect", 1.0))
    scale = size / min(true_height, width)
    target = max(size, round(true_height * scale)), max(size, round(width * scale))
    grown = target[0] > height and target[1] > width
    if target == (height, width):
        pixels = decoded.pixels
    else:
        method = Image.Resampling.BILINEAR if grown else Image.Resampling.BOX
        image = Image.fromarray(np.ascontiguousarray(decoded.pixels, dtype=np.float32))
        pixels = np.asarray(image.resize((target[1], target[0]), method))
    return (pixels * 255 + 0.5).clip(0, 255).astype(np.uint8), grown


def prepared_spacing(decoded: Decoded, short_side: int) -> tuple[float, float]:
    """Return the spacing (row, column) in mm of the prepared image, NaN if the file has none.

    Args:
        decoded: the image.
        short_side: short side of the prepared image in pixels.
    """
    if decoded.spacing is None:
        return math.nan, math.nan
    height, width = decoded.pixels.shape
    millimeters = min(height * decoded.spacing[0], width * decoded.spacing[1]) / short_side
    return millimeters, millimeters
