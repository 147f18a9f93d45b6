"""Projection of a radiograph from its DICOM header: codes, and words in several languages."""

from __future__ import annotations

import re

import pydicom

from monai_anat.data.reading.dicom_header import header_texts

__all__ = [
    "view_in_words",
    "view_of",
]

#: CID 4010 (DX View) in SNOMED CT and, as older files have it, in SNOMED RT
_CODES = {
    "399348003": "AP",
    "R-10206": "AP",
    "272479007": "PA",
    "R-10214": "PA",
    "R-40888": "PA",
    "399033003": "FRONTAL",
    "R-10202": "FRONTAL",
    **dict.fromkeys(("399173006", "R-10236", "399198007", "R-10232", "399067008", "R-102CD"), "LATERAL"),
    **dict.fromkeys(("399260004", "R-10224", "399352003", "R-10228", "30730003", "G-A145"), "LATERAL"),
    **dict.fromkeys(("399182000", "R-102C1", "399236003", "R-10234", "399184004", "R-10238"), "OBLIQUE"),
    **dict.fromkeys(("399135007", "R-10220", "399356000", "R-40985", "399006002", "R-10212"), "OBLIQUE"),
    **dict.fromkeys(("399038007", "R-10210", "399312000", "R-10208", "399059000", "R-10216"), "OBLIQUE"),
    **dict.fromkeys(("399160007", "R-10204", "260427002", "R-40783", "260426006", "R-40782"), "OBLIQUE"),
}
_BEFORE, _AFTER = r"(?<![^\W\d_])(?:", r")(?![^\W\d_])"  # not beside a letter; digits and underscores are allowed
# English, Spanish and Italian, Dutch; German; French, Portuguese and Spanish; Russian; Polish; Japanese and Chinese
_LATERAL = re.compile(
    _BEFORE
    + r"(?:[lr]|latero[- ]?)?lat(?:[eé]ral(?:e|is)?|eraal)?|seitl(?:ich)?|profil|perfil|ll|rl|боков\w+|boczn\w+"
    + _AFTER
    + "|側面|[侧側]位"
)
_OBLIQUE = re.compile(_BEFORE + r"obl(?:ique?|iqua|icua)?|[lr][ap]o|[lr]lo" + _AFTER)
_PA = re.compile(_BEFORE + r"postero-?\s?anterior|dorso-?\s?ventral|tylno-?\s?przedni\w+|pa|p[./-]\s?a" + _AFTER)
_AP = re.compile(_BEFORE + r"antero-?\s?posterior|ventro-?\s?dorsal|przednio-?\s?tyln\w+|ap|a[./-]\s?p" + _AFTER)
_FRONTAL = re.compile(r"front|" + _BEFORE + r"(?:de|thorax) face|frente|прям\w+" + _AFTER + "|正面|正位")
_DESCRIPTIONS = (
    "SeriesDescription",
    "ProtocolName",
    "AcquisitionDeviceProcessingDescription",
    "StudyDescription",
)


def view_in_words(text: str) -> str | None:
    """Find the projection in free text.

    Args:
        text: a description.

    Returns:
        Projection as in :func:`view_of`. None for several projections, which describe a study instead of one image, and
        for decubitus, where "lateral" names the side the patient lies on.

    >>> [view_in_words(text) for text in ("CHEST_LAT", "Thorax seitl.", "Thorax p.a.", "Chest PA and lateral")]
    ['LATERAL', 'LATERAL', 'PA', None]
    """
    text = text.lower()
    if "decub" in text:
        return None
    posterior, anterior = bool(_PA.search(text)), bool(_AP.search(text))
    frontal = posterior or anterior or bool(_FRONTAL.search(text))
    lateral, oblique = bool(_LATERAL.search(text)), bool(_OBLIQUE.search(text))
    if frontal and (lateral or oblique):
        return None
    if lateral or oblique:
        return "OBLIQUE" if oblique else "LATERAL"
    if posterior != anterior:
        return "PA" if posterior else "AP"
    return "FRONTAL" if frontal else None


def view_of(dataset: pydicom.Dataset) -> str | None:
    """Return the projection from ViewPosition, the view code, descriptions and PatientOrientation, in this order.

    Args:
        dataset: a DICOM data set.

    Returns:
        PA, AP, FRONTAL (a frontal view of unknown direction), LATERAL, OBLIQUE, or None if unknown.

    >>> dataset = pydicom.Dataset()
    >>> dataset.ViewPosition = "LL"
    >>> view_of(dataset)
    'LATERAL'
    """
    codes = list(dataset.get("ViewCodeSequence") or [])[:1]
    position = str(dataset.get("ViewPosition", "") or "")
    found = view_in_words(position) or next(
        (_CODES[value] for code in codes if (value := str(code.get("CodeValue", "")).strip()) in _CODES), None
    )
    if found:
        return found
    if position.strip().upper()[:2] in ("PA", "AP") and not _LATERAL.search(position.lower()):
        return position.strip().upper()[:2]
    texts = [str(code.get("CodeMeaning", "") or "") for code in codes]
    texts += [str(dataset.get(name, "") or "") for name in _DESCRIPTIONS]
    found = next((view for text in texts if (view := view_in_words(text))), None)
    if found:
        return found
    orientation = header_texts(dataset.get("PatientOrientation"))
    if len(orientation) == 2:
        letters = {text[:1] for text in orientation}
        if letters & {"A", "P"}:
            return "LATERAL"
        if letters & {"L", "R"}:
            return "FRONTAL"
    return None
