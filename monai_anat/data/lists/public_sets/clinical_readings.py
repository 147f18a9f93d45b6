"""Clinical readings of the Shenzhen and Montgomery sets: sex and age in free text."""

from __future__ import annotations

import re
from pathlib import Path

from monai_anat.data.items import Item

__all__ = ["parse_reading", "read_reading"]

_OLDEST = 120


def parse_reading(text: str) -> Item:
    """Find sex and age in a reading; what cannot be found is left out.

    Args:
        text: the reading, such as ``"Female, 28yrs"`` or ``"Patient's Sex: F"``.

    Returns:
        Dict with ``sex`` (``"F"`` or ``"M"``) and ``age`` in years, as far as they are known.

    >>> parse_reading("Female, 28yrs\\nnormal"), parse_reading("Patient's Sex: M\\nPatient's Age: 027Y")
    ({'sex': 'F', 'age': 28.0}, {'sex': 'M', 'age': 27.0})
    """
    found: Item = {}
    sex = re.search(r"sex:\s*([fm])|^\s*([fm])(?!\w)|^\s*(f|m)\w*?al", text, re.IGNORECASE)
    if sex:
        found["sex"] = next(letter for letter in sex.groups() if letter).upper()
    lines = text.strip().splitlines()
    place = re.search(r"age:\s*(\d+)\s*([a-z]*)", text, re.IGNORECASE) or re.search(
        r"(\d+)\s*([a-z]*)", lines[0] if lines else "", re.IGNORECASE
    )
    if place:
        per_year = {"m": 12.0, "d": 365.25}.get(place.group(2)[:1].lower(), 1.0)
        age = int(place.group(1)) / per_year
        if age <= _OLDEST:
            found["age"] = round(age, 2)
    return found


def read_reading(root: Path, stem: str) -> Item:
    """Read the reading of an image, if there is one.

    Args:
        root: folder of the data set, with ``ClinicalReadings``.
        stem: name of the image without its ending.
    """
    path = root / "ClinicalReadings" / f"{stem}.txt"
    return parse_reading(path.read_text(encoding="utf-8", errors="replace")) if path.is_file() else {}
