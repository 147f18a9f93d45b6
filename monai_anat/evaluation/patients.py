"""Patients and files of a datalist."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_anat.keys import IMAGE

__all__ = ["Items", "file_names", "image_fingerprint", "other_patient", "patient_notes", "patients_of"]

#: items of a datalist
Items = Sequence[Mapping[str, Any]]


def patients_of(items: Items) -> list[str]:
    """Return the patient of each item. An item without a patient gets its file name, or path if names repeat.

    >>> patients_of([{"image": "x/a.png"}, {"image": "b.png", "patient": 7}])
    ['a.png', '7']
    >>> patients_of([{"image": "x/a.png"}, {"image": "y/a.png"}])
    ['x/a.png', 'y/a.png']
    """
    named = [item.get("patient") for item in items]
    return [
        file if patient in (None, "") else str(patient) for patient, file in zip(named, file_names(items), strict=True)
    ]


def file_names(items: Items) -> list[str]:
    """Return the file name of each item, or its path if two files have the same name."""
    files = [str(item[IMAGE]) for item in items]
    unique = len({Path(file).name for file in files}) == len(set(files))
    return [Path(file).name if unique else file for file in files]


def image_fingerprint(items: Items) -> str:
    """Hash the file names. Results are comparable if it is equal.

    >>> image_fingerprint([{"image": "x/a.png"}]) == image_fingerprint([{"image": "y/a.png"}])
    True
    """
    return hashlib.blake2b("\n".join(sorted(file_names(items))).encode(), digest_size=8).hexdigest()


def patient_notes(items: Items) -> list[str]:
    """Report how many images name no patient, as a list of at most one sentence.

    >>> patient_notes([{"image": "a.png"}, {"image": "b.png", "patient": 7}])
    ["1 of 2 images names no 'patient', and each counts as a patient of its own."]
    """
    count = sum(item.get("patient") in (None, "") for item in items)
    if not count:
        return []
    verb = "names" if count == 1 else "name"
    return [f"{count} of {len(items)} images {verb} no 'patient', and each counts as a patient of its own."]


def other_patient(patients: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Pair every row with a row of another patient.

    Patients are put in a random order, and each one is paired with the next.

    Args:
        patients: (N,) number of each row's patient.
        seed: random seed of the order and of the choice among the partner's rows.

    Returns:
        (N,) row of the partner.

    >>> bool((other_patient(np.array([0, 0, 1, 2]), 0) != np.arange(4)).all())
    True
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(patients.max() + 1)
    following = dict(zip(order.tolist(), np.roll(order, -1).tolist(), strict=True))
    rows = {patient: np.flatnonzero(patients == patient) for patient in np.unique(patients).tolist()}
    return np.array([generator.choice(rows[following[patient]]) for patient in patients.tolist()])
