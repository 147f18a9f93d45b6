"""Patients and files of a datalist."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.evaluation.patients import file_names, image_fingerprint, other_patient, patients_of


def test_patients_without_a_name_are_their_files() -> None:
    assert patients_of([{"image": "a/b.png"}, {"image": "c.png", "patient": 0}]) == ["b.png", "0"]


def test_equal_file_names_are_told_apart_by_path() -> None:
    items = [{"image": "x/a.png"}, {"image": "y/a.png"}]
    assert file_names(items) == patients_of(items) == ["x/a.png", "y/a.png"]
    assert file_names(items[:1]) == ["a.png"]


def test_fingerprint_is_of_the_files_in_any_order() -> None:
    items = [{"image": "x/a.png"}, {"image": "x/b.png"}]
    assert image_fingerprint(items) == image_fingerprint(items[::-1]) != image_fingerprint(items[:1])


@pytest.mark.parametrize("seed", range(5))
def test_partner_is_never_the_same_patient(seed) -> None:
    patients = np.array([0, 0, 1, 2, 2, 2, 3])
    assert (patients[other_patient(patients, seed)] != patients).all()
