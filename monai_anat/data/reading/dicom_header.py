"""Facts from a DICOM header: modality, body part, spacing.

Results are fixed words and numbers, so that no free text of a header is passed on.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pydicom
from pydicom.uid import UID, JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless

from monai_anat.data.reading.decoded import UnreadableError, is_plausible_aspect

__all__ = [
    "body_part_of",
    "header_number",
    "header_texts",
    "is_lossy",
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
#: part of the storage class's name -> modality, for files with a missing or wrong Modality element
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
_LOSSY_SYNTAXES = (JPEGBaseline8Bit, JPEGExtended12Bit, JPEGLSNearLossless)
_FRAME_GROUPS = {
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
    "PixelValueTransformationSequence": ("RescaleSlope", "RescaleIntercept"),
    "PixelMeasuresSequence": ("PixelSpacing",),
}


def is_raw(dataset: pydicom.Dataset) -> bool:
    """Check whether the image is raw data for processing instead of display.

    Args:
        dataset: a DICOM data set.

    >>> is_raw(pydicom.Dataset())
    False
    """
    intent = str(dataset.get("PresentationIntentType", "") or "").strip().upper()
    # exports may lose the intent; the storage class implies it
    return "PROCESSING" in intent if intent else _storage_class(dataset).endswith("ForProcessing")


def is_lossy(dataset: pydicom.Dataset) -> bool:
    """Check whether the pixel values were changed by lossy compression.

    Args:
        dataset: a DICOM data set.

    >>> dataset = pydicom.Dataset()
    >>> dataset.LossyImageCompression = "01"
    >>> is_lossy(dataset)
    True
    """
    meta = getattr(dataset, "file_meta", None)
    syntax = None if meta is None else meta.get("TransferSyntaxUID")
    return syntax in _LOSSY_SYNTAXES or str(dataset.get("LossyImageCompression", "") or "").strip() == "01"


def modality_of(dataset: pydicom.Dataset) -> str | None:
    """Return the modality from the storage class if that names one, otherwise from the Modality element, or None.

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
    # a fixed vocabulary, because free text in this element must not be passed on
    return by_class or (modality if modality in _PICTURES | _OTHERS else None)


def _storage_class(dataset: pydicom.Dataset) -> str:
    """The keyword of the storage class; empty if it is absent or private."""
    return str(UID(str(dataset.get("SOPClassUID", "") or "")).keyword)


def body_part_of(dataset: pydicom.Dataset) -> str | None:
    """Return ``chest``, ``other``, or None if the header does not name the body part.

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
    """Read the pixel spacing and the pixel aspect ratio. Implausible numbers count as absent.

    Args:
        dataset: a DICOM data set.

    Returns:
        Spacing (row, column) in mm or None, its source, and the height of a pixel over its width.

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
    """Magnification of the body on the detector; 1 if the header has no plausible value."""
    try:
        factor = float(dataset.get("EstimatedRadiographicMagnificationFactor") or 1)
    except (TypeError, ValueError):
        return 1.0
    return factor if 1 <= factor < _LARGEST_MAGNIFICATION else 1.0


def _pair(dataset: pydicom.Dataset, name: str) -> tuple[float, float]:
    """Two numbers of an element; zeros if it has none."""
    try:
        first, second = (float(value) for value in dataset.get(name) or ())
    except (TypeError, ValueError):
        return 0.0, 0.0
    return first, second


def header_number(dataset: pydicom.Dataset, name: str, default: float) -> float:
    """Read a number from an element.

    Args:
        dataset: a DICOM data set.
        name: keyword of the element.
        default: value to return if the element is absent or empty.

    Raises:
        UnreadableError: if the element does not hold a finite number.

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
        raise UnreadableError(f"{name} in the DICOM header is not a number") from error


def header_texts(value: Any) -> list[str]:
    r"""Split the text of an element into its values, in capitals.

    Args:
        value: value of an element: None, a text, or several texts.

    >>> header_texts("l\\f")
    ['L', 'F']
    """
    if value is None or isinstance(value, str):
        # some exports write a slash instead of a backslash
        return [part.strip() for part in re.split(r"[\\/]", str(value).upper())] if value else []
    return [str(part).strip().upper() for part in value]


def transfer_syntax_of(dataset: pydicom.Dataset) -> str:
    """Return the name of the transfer syntax, or ``unknown`` if the standard does not define it.

    Args:
        dataset: a DICOM data set with file meta information.
    """
    uid = dataset.file_meta.get("TransferSyntaxUID")
    # a private UID may identify a site
    return (
        str(UID(uid).name) if uid is not None and UID(uid).is_transfer_syntax and not UID(uid).is_private else "unknown"
    )


def lift_frame_groups(dataset: pydicom.Dataset, frame: int) -> None:
    """Copy window, rescale and spacing of one frame of an enhanced file to the top level of the data set.

    Args:
        dataset: a DICOM data set, changed in place.
        frame: number of the frame, counted from 0.
    """
    per_frame = list(dataset.get("PerFrameFunctionalGroupsSequence") or [])
    shared = list(dataset.get("SharedFunctionalGroupsSequence") or [])
    for group in shared[:1] + per_frame[frame : frame + 1]:
        for sequence, names in _FRAME_GROUPS.items():
            for item in list(group.get(sequence) or [])[:1]:
                for name in names:
                    if name in item:
                        dataset[name] = item[name]
