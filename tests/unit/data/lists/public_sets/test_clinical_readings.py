"""Sex and age in the spellings of the readings."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_anat.data.lists.public_sets.clinical_readings import parse_reading, read_reading


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("male 45yrs\nnormal", {"sex": "M", "age": 45}),
        ("Female, 28yrs\nPTB in 3 lobes", {"sex": "F", "age": 28}),
        ("female24yrs", {"sex": "F", "age": 24}),
        ("femal 30 yrs", {"sex": "F", "age": 30}),
        ("male , 61yrs", {"sex": "M", "age": 61}),
        ("male 16month", {"sex": "M", "age": 1.33}),
        ("female 64days", {"sex": "F", "age": 0.18}),
        ("male 33", {"sex": "M", "age": 33}),
        ("Patient's Sex: F\nPatient's Age: 027Y\nnormal", {"sex": "F", "age": 27}),
        ("Patient's Sex: O\nPatient's Age: 005Y", {"age": 5}),
        ("male 414yrs", {"sex": "M"}),
        ("", {}),
        ("normal", {}),
    ],
)
def test_every_spelling(text: str, expected: dict[str, object]) -> None:
    assert parse_reading(text) == expected


def test_a_reading_that_is_not_there(tmp_path: Path) -> None:
    assert read_reading(tmp_path, "a") == {}
    (tmp_path / "ClinicalReadings").mkdir()
    (tmp_path / "ClinicalReadings" / "a.txt").write_bytes(b"male 40yrs \xff")
    assert read_reading(tmp_path, "a") == {"sex": "M", "age": 40}
