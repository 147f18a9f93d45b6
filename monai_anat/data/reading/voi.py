"""Display values of DICOM images: modality LUT, VOI LUT and windows (DICOM PS3.3, C.11.1 and C.11.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray

from monai_anat.data.reading.dicom_header import header_number
from monai_anat.data.reading.gray_levels import scale_by_percentiles

__all__ = [
    "Voi",
    "map_gray",
    "modality_values",
    "window",
]

_BLANK = 1e-3  # a display with a smaller standard deviation is blank
_GRAY, _GRAYS = 0.02, 0.01  # distance of a gray pixel from black and white; required share of gray pixels


@dataclass(frozen=True)
class Voi:
    """Description of the mapping of gray values, for ``Radiograph.info["mapping"]``."""

    words: str


def modality_values(values: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[Any]:
    """Apply the modality LUT, or rescale slope and intercept.

    Args:
        values: stored values (H, W).
        dataset: a DICOM data set.

    >>> dataset = pydicom.Dataset()
    >>> dataset.RescaleSlope, dataset.RescaleIntercept = 2, -1
    >>> modality_values(np.array([[3]]), dataset).tolist()
    [[5.0]]
    """
    sequence = dataset.get("ModalityLUTSequence")
    if sequence:
        table, first = _table(sequence[0], float(values.max(initial=0)))
        if table is not None:
            return table[np.clip(values.astype(np.int64) - first, 0, len(table) - 1)]
    slope = header_number(dataset, "RescaleSlope", 1) or 1.0
    intercept = header_number(dataset, "RescaleIntercept", 0)
    if slope == 1 and intercept == 0:
        return values
    return values.astype(np.float32) * np.float32(slope) + np.float32(intercept)


def map_gray(
    values: NDArray[Any], dataset: pydicom.Dataset, valid: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], Voi]:
    """Map modality values to [0, 1] as a viewer does: by the VOI LUT, otherwise by the first window that is not blank.

    Without either, images of up to 8 bits are divided by the largest number of that many bits, so that a DICOM and a
    PNG file of the same picture are equal. Deeper images are mapped by percentiles.

    Args:
        values: modality values (H, W).
        dataset: a DICOM data set.
        valid: (H, W) mask of pixels with image content, as opposed to padding.

    Returns:
        float32 (H, W) and a description of the mapping.
    """
    sequence = dataset.get("VOILUTSequence")
    if sequence:
        table, first = _table(sequence[0], float(values.max(initial=0)))
        if table is not None and table.max() > 0:
            index = np.clip(np.rint(values).astype(np.int64) - first, 0, len(table) - 1)
            pixels = (table[index].astype(np.float32) / np.float32(table.max())).astype(np.float32)
            if _shows(pixels):
                return pixels, Voi(f"VOI LUT of {len(table)} entries")
    centers, widths = _numbers(dataset.get("WindowCenter")), _numbers(dataset.get("WindowWidth"))
    function = str(dataset.get("VOILUTFunction", "") or "").strip().upper()
    if function not in ("LINEAR_EXACT", "SIGMOID"):
        function = "LINEAR"  # also for free text, which must not be passed on
    for number, (center, width) in enumerate(zip(centers, widths, strict=False)):
        if not np.isfinite(center + width) or (width < 1 and not (width > 0 and function != "LINEAR")):
            continue
        pixels = window(values, center, width, function)
        if _shows(pixels):
            which = f", number {number + 1} of {len(centers)}" if len(centers) > 1 else ""
            return pixels, Voi(f"window {function} center {center:g} width {width:g}{which}")
    note = " (windows of the header show nothing)" if centers else " (no window)"
    stored = int(dataset.get("BitsStored", 16) or 16)
    top = 2**stored - 1
    if stored <= 8 and values.min() >= 0 and values.max() <= top:
        return values.astype(np.float32) * np.float32(1 / top), Voi(f"linear from 0..{top}" + note)
    pixels, words = scale_by_percentiles(values, valid)
    return pixels, Voi(words + note)


def window(values: NDArray[Any], center: float, width: float, function: str = "LINEAR") -> NDArray[np.float32]:
    """Map values to [0, 1] by a window (DICOM PS3.3, C.11.2.1.2 and C.11.2.1.3).

    Args:
        values: modality values (H, W).
        center: value that becomes 0.5.
        width: width of the window in values; greater than 0, at least 1 for LINEAR.
        function: LINEAR, LINEAR_EXACT or SIGMOID. Unknown functions count as LINEAR.

    >>> window(np.array([0, 50, 100]), 50, 100, "LINEAR_EXACT").tolist()
    [0.0, 0.5, 1.0]
    >>> window(np.array([50.0]), 50, 100, "SIGMOID").tolist()
    [0.5]
    """
    levels = values.astype(np.float32)
    if function == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(np.clip(-4 * (levels - center) / width, -80, 80))), dtype=np.float32)
    if function == "LINEAR_EXACT":
        return np.asarray(np.clip((levels - center) / width + 0.5, 0, 1), dtype=np.float32)
    if width <= 1:
        return (levels > center - 0.5).astype(np.float32)
    return np.asarray(np.clip((levels - (center - 0.5)) / (width - 1) + 0.5, 0, 1), dtype=np.float32)


def _numbers(value: Any) -> list[float]:
    """The numbers of a decimal string with one or several values; NaN for malformed ones."""
    if value is None or value == "":
        return []
    values = value if isinstance(value, (list, tuple, pydicom.multival.MultiValue)) else [value]
    numbers = []
    for entry in values:
        try:
            numbers.append(float(entry))
        except (TypeError, ValueError):
            numbers.append(float("nan"))
    return numbers


def _shows(pixels: NDArray[np.float32]) -> bool:
    """Whether a display is not blank: neither a single gray, nor black and white alone, as with a width of 1."""
    few = pixels[:: max(1, pixels.shape[0] // 256), :: max(1, pixels.shape[1] // 256)]
    return bool(few.std() > _BLANK and np.mean((few > _GRAY) & (few < 1 - _GRAY)) > _GRAYS)


def _table(item: pydicom.Dataset, largest: float) -> tuple[NDArray[np.int64] | None, int]:
    """Entries of a LUT and the first value that it maps; None if it is malformed."""
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    if descriptor is None or data is None or len(descriptor) != 3:
        return None, 0
    count, first, bits = (int(value) for value in descriptor)
    count = count or 65536  # 0 stands for 2^16
    if first > 32767 and first > largest:
        first -= 65536  # a negative number, because as a positive one it lies above all values
    if isinstance(data, bytes):
        words = ">u2" if item.original_encoding[1] is False else "<u2"
        # bytes may be packed in words, padded to an even length
        table = np.frombuffer(data, np.uint8 if bits <= 8 and len(data) <= count + 1 else words).astype(np.int64)
    else:
        table = np.asarray([data] if isinstance(data, int) else list(data), dtype=np.int64) & 0xFFFF
        if bits <= 8 and len(table) == (count + 1) // 2 and len(table) < count:
            table = np.stack([table & 0xFF, table >> 8], axis=1).ravel()
    return (table[:count], first) if len(table) >= count else (None, 0)
