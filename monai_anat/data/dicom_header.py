"""What a DICOM header says of a picture: projection, modality, body part, spacing.

Answers are of fixed words and numbers, so that no free text of a header travels on.
"""

from __future__ import annotations

import re
from typing import Any

import pydicom
from pydicom.uid import UID

from .reading import UnreadableError, is_plausible_aspect

__all__ = [
    "body_part_of",
    "header_number",
    "header_texts",
    "is_raw",
    "lift_frame_groups",
    "modality_of",
    "spacing_of",
    "transfer_syntax_of",
    "view_of",
]

_SPACING_TAGS = (
    ("PixelSpacing", "PixelSpacing"),
    ("ImagerPixelSpacing", "ImagerPixelSpacing, at the detector"),
    ("NominalScannedPixelSpacing", "NominalScannedPixelSpacing"),
)
_PICTURES = {"CR", "DX", "RG", "XA", "RF", "MG", "IO", "PX", "CT", "MR", "NM", "PT", "US", "ES", "XC", "OP", "SM", "GM"}
_OTHERS = {"OT", "SC", "SR", "PR", "KO", "SEG", "DOC", "RTPLAN", "RTSTRUCT", "RTDOSE", "RTIMAGE"}
#: part of a storage class's name -> modality: some files lack the modality, or have that of the machine
_CLASSES = {
    "CTImage": "CT",
    "MRImage": "MR",
    "Ultrasound": "US",
    "NuclearMedicine": "NM",
    "PositronEmission": "PT",
    "EnhancedPET": "PT",
    "Mammography": "MG",
    "BreastTomosynthesis": "MG",
    "IntraOral": "IO",
    "Segmentation": "SEG",
    "RTDose": "RTDOSE",
}
_OTHER_BODY_PARTS = re.compile(
    r"EXTREMITY|HAND|FOOT|KNEE|ANKLE|WRIST|ELBOW|FINGER|TOE|HIP|PELVIS|SKULL|HEAD|BRAIN|BREAST|JAW|TEETH|ABDOMEN|"
    r"LSPINE|LEG|ARM\b|FEMUR|TIBIA|WHOLE"
)
_CHEST = re.compile(r"CHEST|THORAX|LUNG|RIB")
_LATERAL_VIEWS = frozenset({"LL", "RL", "LAT", "LATERAL", "LLAT", "RLAT", "LEFT LATERAL", "RIGHT LATERAL"})
_OBLIQUE_VIEWS = frozenset({"LAO", "RAO", "LPO", "RPO", "LLO", "RLO", "OBL", "OBLIQUE"})
# lateral in English, Spanish, Italian, Dutch; German; French
_LATERAL_WORDS = re.compile(r"\blat(eral(e|is)?|eraal)?\b|\bseitl(ich)?\b|\bde profil\b|\bll\b|\brl\b")
_FRONTAL_WORDS = re.compile(r"\b(pa|ap)\b|\bp\.\s?a\b|\ba\.\s?p\b|front")
_PA_WORDS = re.compile(r"postero-?\s?anterior|\bpa\b|\bp\.\s?a\b")
_AP_WORDS = re.compile(r"antero-?\s?posterior|\bap\b|\ba\.\s?p\b")
_DESCRIPTIONS = (
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "StudyDescription",
)
_FRAME_GROUPS = {
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}


def view_of(dataset: pydicom.Dataset) -> str | None:
    """Say which projection it is, from ViewPosition, the view code, descriptions and PatientOrientation, in this order.

    Args:
        dataset: a DICOM data set.

    Returns:
        PA, AP, FRONTAL (a frontal view of unknown direction), LATERAL, OBLIQUE, or None where nothing says it.

    >>> dataset = pydicom.Dataset()
    >>> dataset.ViewPosition = "LL"
    >>> view_of(dataset)
    'LATERAL'
    """
    position = str(dataset.get("ViewPosition", "") or "").strip().upper()
    if position in _LATERAL_VIEWS:
        return "LATERAL"
    if position in _OBLIQUE_VIEWS:
        return "OBLIQUE"
    if position[:2] in ("PA", "AP"):
        return position[:2]
    words = [str(code.get("CodeMeaning", "")) for code in dataset.get("ViewCodeSequence") or []]
    words += [str(dataset.get(name, "") or "") for name in _DESCRIPTIONS]
    for text in (word.lower() for word in words):
        if "decub" in text:
            continue
        if _LATERAL_WORDS.search(text):
            # "PA and lateral" describes the study, not this picture
            if _FRONTAL_WORDS.search(text):
                continue
            return "LATERAL"
        if _PA_WORDS.search(text):
            return "PA"
        if _AP_WORDS.search(text):
            return "AP"
    orientation = header_texts(dataset.get("PatientOrientation"))
    if len(orientation) == 2:
        letters = {text[:1] for text in orientation}
        if letters & {"A", "P"}:
            return "LATERAL"
        if letters & {"L", "R"}:
            return "FRONTAL"
    return None


def is_raw(dataset: pydicom.Dataset) -> bool:
    """Say whether the image is meant for processing and not for display.

    Args:
        dataset: a DICOM data set.

    >>> is_raw(pydicom.Dataset())
    False
    """
    return str(dataset.get("PresentationIntentType", "") or "").strip().upper() == "FOR PROCESSING"


def modality_of(dataset: pydicom.Dataset) -> str | None:
    """Say which machine made it: by the storage class where that names one, else by the tag; None where neither does.

    Args:
        dataset: a DICOM data set.

    >>> dataset = pydicom.Dataset()
    >>> dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    >>> modality_of(dataset)
    'CT'
    """
    storage = str(UID(str(dataset.get("SOPClassUID", "") or "")).keyword)
    by_class = next((modality for part, modality in _CLASSES.items() if part in storage), None)
    modality = str(dataset.get("Modality", "") or "").strip().upper()
    # a fixed vocabulary: a free text in this tag must not travel on
    return by_class or (modality if modality in _PICTURES | _OTHERS else None)


def body_part_of(dataset: pydicom.Dataset) -> str | None:
    """Say ``chest``, ``other`` or None.

    Args:
        dataset: a DICOM data set.

    >>> dataset = pydicom.Dataset()
    >>> dataset.BodyPartExamined = "KNEE"
    >>> body_part_of(dataset)
    'other'
    """
    text = str(dataset.get("BodyPartExamined", "") or "").upper()
    if _CHEST.search(text):
        return "chest"
    return "other" if _OTHER_BODY_PARTS.search(text) else None


def spacing_of(dataset: pydicom.Dataset) -> tuple[tuple[float, float] | None, str, float]:
    """Read spacing and the form of a pixel; numbers that no detector has count as absent.

    Args:
        dataset: a DICOM data set.

    Returns:
        Spacing (row, column) in mm or None, where it comes from, and a pixel's height over its width.

    >>> spacing_of(pydicom.Dataset())
    (None, 'unknown: no spacing in the header', 1.0)
    """
    for name, words in _SPACING_TAGS:
        row, column = _pair(dataset, name)
        if is_plausible_aspect(row, column):
            return (row, column), words, row / column
    vertical, horizontal = _pair(dataset, "PixelAspectRatio")
    if is_plausible_aspect(vertical, horizontal):
        return None, "unknown: only PixelAspectRatio", vertical / horizontal
    return None, "unknown: no spacing in the header", 1.0


def _pair(dataset: pydicom.Dataset, name: str) -> tuple[float, float]:
    """Two numbers; zeros where there are none."""
    try:
        first, second = (float(value) for value in dataset.get(name) or ())
    except (TypeError, ValueError):
        return 0.0, 0.0
    return first, second


def header_number(dataset: pydicom.Dataset, name: str, default: float) -> float:
    """Read a number; the default where the element is absent or empty.

    Args:
        dataset: a DICOM data set.
        name: keyword of the element.
        default: of an absent element.

    Raises:
        UnreadableError: the element holds something else.

    >>> header_number(pydicom.Dataset(), "RescaleSlope", 1)
    1.0
    """
    try:
        value = dataset.get(name)
        return float(default if value is None or value == "" else value)
    except (TypeError, ValueError) as error:
        raise UnreadableError(f"{name} in the DICOM header is no number") from error


def header_texts(value: Any) -> list[str]:
    r"""Split a text of one or several values, in capitals.

    Args:
        value: of an element.

    >>> header_texts("l\\f")
    ['L', 'F']
    """
    if value is None or isinstance(value, str):
        return [] if not value else str(value).upper().split("\\")
    return [str(part).strip().upper() for part in value]


def transfer_syntax_of(dataset: pydicom.Dataset) -> str:
    """Name the transfer syntax; ``unknown`` for one that is not in the standard.

    Args:
        dataset: a DICOM data set with file meta information.
    """
    uid = dataset.file_meta.get("TransferSyntaxUID")
    # an unknown UID may be a private one that leads to a site
    return (
        str(UID(uid).name) if uid is not None and UID(uid).is_transfer_syntax and not UID(uid).is_private else "unknown"
    )


def lift_frame_groups(dataset: pydicom.Dataset, frame: int) -> None:
    """Write what an enhanced file says of a frame (window, rescale, spacing) where other files have it.

    Args:
        dataset: a DICOM data set, changed in place.
        frame: number of the frame.
    """
    per_frame = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    for group in shared[:1] + per_frame[frame : frame + 1]:
        for sequence, names in _FRAME_GROUPS.items():
            for item in list(group.get(sequence) or [])[:1]:
                for name in names:
                    if name in item:
                        dataset[name] = item[name]
