"""One file of ``prepare``: decode, judge, resize, hash. Runs in worker processes; its outcome names nobody."""

from __future__ import annotations

import hashlib
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from monai_anat.data.preparation.candidates import Candidate
from monai_anat.data.preparation.identity import keyed_hash
from monai_anat.data.reading.decoded import Decoded
from monai_anat.data.reading.dicom_view import view_in_words
from monai_anat.data.reading.radiograph import RadiographError, decode

__all__ = ["THUMBNAIL", "Outcome", "judge", "prepare_file", "prepared_spacing", "source_hash", "to_size"]

#: side of the thumbnails by which near duplicates are found
THUMBNAIL = 16
_BLANK_STD = 0.01
_SMALLEST = 32
_PROPORTIONS = 4.0
_RADIOGRAPHS = {None, "CR", "DX", "RG", "RF", "OT", "SC"}


@dataclass(frozen=True)
class Outcome:
    """What became of one candidate.

    Attributes:
        position: its number in the source.
        source: keyed hash of the file, by which a later run knows it again.
        reason: why it was set aside; empty for an image that was taken.
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


def source_hash(path: str, key: bytes) -> str:
    """Hash a file's place, size and time of change, to know it again without decoding it.

    Args:
        path: the file.
        key: from ``load_key``.
    """
    try:
        status = Path(path.split("#")[0]).stat()
    except OSError:
        return keyed_hash(key, path)
    return keyed_hash(key, f"{path}\0{status.st_size}\0{status.st_mtime_ns}")


def prepare_file(position: int, candidate: Candidate, source: str, key: bytes, size: int, view: str) -> Outcome:
    """Decode one file, judge it, and bring it to size.

    Args:
        position: number in the source.
        candidate: the file.
        source: its keyed hash.
        key: from ``load_key``.
        size: length of the short side, in pixels.
        view: ``frontal`` or ``lateral`` sets other views, other modalities and body parts aside; ``any`` takes all.

    Returns:
        The outcome; no failure of a file raises.
    """
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # its warnings quote tags
    if candidate.reason:
        return Outcome(position, source, candidate.reason)
    try:
        decoded = decode(candidate.path)
    except RadiographError as error:
        return Outcome(position, source, error.reason)
    reason = judge(decoded, candidate.view, view)
    if reason:
        return Outcome(position, source, reason)
    pixels, grown = to_size(decoded, size)
    patient = candidate.patient or decoded.patient
    height, width = decoded.info["original_size"]
    digest = hashlib.blake2b(pixels.tobytes(), digest_size=16, person=f"{pixels.shape[0]}x{pixels.shape[1]}".encode())
    record = {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "original_height": int(height),
        "original_width": int(width),
        "spacing": prepared_spacing(decoded, min(pixels.shape)),
        "kind": str(decoded.info["kind"])[:6],
        "view": _named_view(candidate.view or "") or decoded.info.get("view") or "",
        "split": candidate.split or "",
        "position": position,
        "pixels": digest.hexdigest(),
        "group": keyed_hash(key, patient if patient else f"file {source}"),
        "patient_known": bool(patient),
        "grown": grown,
        "label": candidate.label,
    }
    small = Image.fromarray(pixels).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    return Outcome(position, source, "", pixels, record, np.asarray(small))


def judge(decoded: Decoded, listed_view: str | None, wanted_view: str) -> str:
    """Say why a decoded image is no training image, or nothing.

    Args:
        decoded: the image.
        listed_view: its projection by the list.
        wanted_view: ``frontal``, ``lateral`` or ``any``.
    """
    height, width = decoded.pixels.shape
    if min(height, width) < _SMALLEST:
        return f"the image is tiny: {height} x {width} pixels"
    true_height = height * float(decoded.info.get("pixel_aspect", 1.0))
    if max(true_height, width) > _PROPORTIONS * min(true_height, width):
        return f"the image is a strip: {height} x {width} pixels"
    if wanted_view != "any":
        modality = decoded.info.get("modality")
        if modality not in _RADIOGRAPHS:
            return f"modality {modality} is no plain radiograph of a chest"
        if decoded.info.get("body_part") == "other":
            return "the body part is not the chest"
        kind = _kind_of_view(listed_view or decoded.info.get("view") or "")
        if kind not in ("", wanted_view):
            return f"a {kind} view where {wanted_view} was asked for"
    # the middle: a border or a burned-in mark must not make a blank image look busy
    middle = decoded.pixels[height // 8 : height - height // 8, width // 8 : width - width // 8]
    if float(middle[:: max(1, height // 256), :: max(1, width // 256)].std()) < _BLANK_STD:
        return "the image is blank"
    return ""


def _kind_of_view(view: str) -> str:
    """``frontal``, ``lateral``, ``oblique``, or nothing where the view is not known."""
    words = set(re.split(r"[^A-Z]+", view.upper()))
    if words & {"OBL", "OBLIQUE", "LAO", "RAO", "LPO", "RPO"}:
        return "oblique"
    frontal, lateral = words & {"PA", "AP", "FRONTAL"}, words & {"L", "LL", "RL", "LAT", "LLAT", "RLAT", "LATERAL"}
    if bool(frontal) != bool(lateral):
        return "frontal" if frontal else "lateral"
    found = view_in_words(view) or ""
    return {"": "", "LATERAL": "lateral", "OBLIQUE": "oblique"}.get(found, "frontal")


def _named_view(view: str) -> str:
    """The listed projection in the words of ``view_of``: a free text of a table may name a person."""
    named = {"frontal": "FRONTAL", "lateral": "LATERAL", "oblique": "OBLIQUE"}
    return view_in_words(view) or named.get(_kind_of_view(view), "")


def to_size(decoded: Decoded, size: int) -> tuple[NDArray[np.uint8], bool]:
    """Resize so that the short side is ``size``, the body in its true proportions: by area, or bilinear to grow.

    Args:
        decoded: the image, float in [0, 1].
        size: length of the short side, in pixels.

    Returns:
        uint8 (H, W), and whether the image had to grow.
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
    """Spacing (row, column) in mm of the prepared image, or not-a-number where the file did not say.

    Args:
        decoded: the image.
        short_side: of the prepared image, in pixels.
    """
    if decoded.spacing is None:
        return math.nan, math.nan
    height, width = decoded.pixels.shape
    millimeters = min(height * decoded.spacing[0], width * decoded.spacing[1]) / short_side
    return millimeters, millimeters
