"""Montgomery set as a fixture tree, with masks on either side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_anat.data.lists.public_sets.montgomery import read_montgomery


@pytest.mark.parametrize("left_is_patient", [True, False])
def test_the_right_lung_comes_first_whatever_the_folders_are_called(tmp_path: Path, left_is_patient: bool) -> None:
    for stem in ("MCUCXR_0113_1", "MCUCXR_0117_1", "MCUCXR_0001_0"):
        for place in ("CXR_png", "ManualMask/leftMask", "ManualMask/rightMask"):
            (tmp_path / place).mkdir(parents=True, exist_ok=True)
            mask = np.zeros((20, 30), np.uint8)
            at_left = (place == "ManualMask/rightMask") == left_is_patient
            mask[5:15, 3 : 10 if at_left else 8] = 255 if at_left else 0
            mask[5:15, 20:27] = 0 if at_left else 255
            Image.fromarray(mask).save(tmp_path / place / f"{stem}.png")
    (tmp_path / "CXR_png" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "ClinicalReadings").mkdir()
    (tmp_path / "ClinicalReadings" / "MCUCXR_0001_0.txt").write_text("Patient's Sex: F\nPatient's Age: 027Y\nnormal")
    items = read_montgomery(tmp_path)
    assert [item["label"] for item in items] == [0, 1, 1]
    assert [item["patient"] for item in items] == ["MCUCXR_0001", "MCUCXR_0113", "MCUCXR_0113"]
    assert (items[0]["sex"], items[0]["age"]) == ("F", 27)
    sides = [Path(path).parent.name for path in items[0]["mask"]]
    assert sides == (["rightMask", "leftMask"] if left_is_patient else ["leftMask", "rightMask"])
