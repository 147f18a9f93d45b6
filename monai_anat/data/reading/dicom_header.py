"""What a DICOM header says of a picture: modality, body part, spacing.

Answers are of fixed words and numbers, so that no free text of a header travels on.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pydicom
from pydicom.uid import UID

from monai_anat.data.reading.decoded import UnreadableError, is_plausible_aspect

__all__ = [
    "body_part_of",
    "header_number",
    "header_texts",
    "is_raw",
    "lift_frame_groups",
    "modality_of",
    "spacing_of",
    "transfer_syntax_of",
]

_SPACING_TAGS = (
    ("PixelSpacing", "PixelSpacing"),
    ("ImagerPixelSpacing", "ImagerPixelSpacing, at the detector"),
    ("NominalScannedPixelSpacing", "NominalScannedPixelSpacing"),
)
_PICTURES = {"CR", "DX", "RG", "XA", "RF", "MG", "IO", "PX", "CT", "MR", "NM", "PT", "US", "ES", "XC", "OP", "SM", "GM"}
_PICTURES |= {"BMD", "BI", "DG", "ECG", "EPS", "HD", "IVOCT", "IVUS", "LS", "OCT", "OPM", "OPT", "TG"}
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
    r"EXTREMITY|_EXM|HAND|FOOT|KNEE|ANKLE|WRIST|ELBOW|FINGER|THUMB|TOE|HEEL|CALCANEUS|PATELLA|HIP|PELVIS|SACRUM|COCCYX|"
    r"SKULL|HEAD|BRAIN|SINUS|NASAL|ORBIT|FACIAL|MANDIBLE|MAXILLA|JAW|TEETH|NECK|SPINE|SHOULDER|CLAVICLE|SCAPULA|HUMERUS|"
    r"BREAST|ABDOMEN|LEG|ARM\b|FEMUR|TIBIA|FIBULA|THIGH|CALF|WHOLE|"
    # German; French; Spanish and Italian
    r"SCHULTER|KNIE|FU(SS|ß)|BECKEN|SCH(AE|Ä|A)DEL|\b[HBL]WS\b|GENOU|[EÉ]PAULE|BASSIN|CHEVILLE|POIGNET|RACHIS|"
    r"RODILLA|HOMBRO|\bMANO|TOBILLO|CADERA|COLUMNA|GINOCCHIO|SPALLA|COLONNA|BACINO"
)
_CHEST = re.compile(r"CHEST|THORAX|T[OÓ]RA(X|CE)|LUNG|POUMON|PULM[OÓ]N|POLMON|\bRIB|胸")
_LARGEST_MAGNIFICATION = 4.0
_FRAME_GROUPS = {
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}


def is_raw(dataset: pydicom.Dataset) -> bool:
    """Say whether the image is meant for processing and not for display.

    Args:
        dataset: a DICOM data set.

    >>> is_raw(pydicom.Dataset())
    False
    """
    intent = str(dataset.get("PresentationIntentType", "") or "").strip().upper()
    # an export may lose the intent; the storage class says the same
    return "PROCESSING" in intent if intent else _storage_class(dataset).endswith("ForProcessing")


def modality_of(dataset: pydicom.Dataset) -> str | None:
    """Say which machine made it: by the storage class where that names one, else by the tag; None where neither does.

    Args:
        dataset: a DICOM data set.

    >>> dataset = pydicom.Dataset()
    >>> dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    >>> modality_of(dataset)
    'CT'
    """
    storage = _storage_class(dataset)
    by_class = next((modality for part, modality in _CLASSES.items() if part in storage), None)
    modality = str(dataset.get("Modality", "") or "").strip().upper()
    # a fixed vocabulary: a free text in this tag must not travel on
    return by_class or (modality if modality in _PICTURES | _OTHERS else None)


def _storage_class(dataset: pydicom.Dataset) -> str:
    """The keyword of the storage class; empty where it is absent or private."""
    return str(UID(str(dataset.get("SOPClassUID", "") or "")).keyword)


def body_part_of(dataset: pydicom.Dataset) -> str | None:
    """Say ``chest``, ``other`` or None.

    Args:
        dataset: a DICOM data set.

    >>> dataset = pydicom.Dataset()
    >>> dataset.BodyPartExamined = "KNEE"
    >>> body_part_of(dataset)
    'other'
    """
    regions = list(dataset.get("AnatomicRegionSequence") or [])[:1]
    text = str(dataset.get("BodyPartExamined") or (regions and regions[0].get("CodeMeaning")) or "").upper()
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
            factor = _magnification(dataset) if name == "ImagerPixelSpacing" else 1.0
            words = words if factor == 1 else "ImagerPixelSpacing, divided by the magnification"
            return (row / factor, column / factor), words, row / column
    vertical, horizontal = _pair(dataset, "PixelAspectRatio")
    if is_plausible_aspect(vertical, horizontal):
        return None, "unknown: only PixelAspectRatio", vertical / horizontal
    return None, "unknown: no spacing in the header", 1.0


def _magnification(dataset: pydicom.Dataset) -> float:
    """How much larger the shadow on the detector is than the body; 1 where nothing plausible is said."""
    try:
        factor = float(dataset.get("EstimatedRadiographicMagnificationFactor") or 1)
    except (TypeError, ValueError):
        return 1.0
    return factor if 1 <= factor < _LARGEST_MAGNIFICATION else 1.0


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
        number = float(default if value is None or value == "" else value)
        if not math.isfinite(number):
            raise ValueError(name)
        return number
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
        # a slash leans the other way in some exports
        return [part.strip() for part in re.split(r"[\\/]", str(value).upper())] if value else []
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
