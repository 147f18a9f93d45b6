"""Shenzhen set as a fixture tree."""

from __future__ import annotations

from pathlib import Path

from monai_anat.data.lists.public_sets.shenzhen import read_shenzhen


def test_labels_readings_and_masks(tmp_path: Path) -> None:
    for name in ("CXR_png/CHNCXR_0001_0.png", "CXR_png/CHNCXR_0327_1.png", "mask/CHNCXR_0327_1_mask.png",
                 "Annotations/CHNCXR_0327_1_Cavity_1.png", "CXR_png/Thumbs.db"):  # fmt: skip
        (tmp_path / "ChinaSet_AllFiles" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "ChinaSet_AllFiles" / name).write_bytes(b"x")
    readings = tmp_path / "ChinaSet_AllFiles" / "ClinicalReadings"
    readings.mkdir()
    (readings / "CHNCXR_0327_1.txt").write_text("female 28yrs\nPTB")
    for folder in (tmp_path, tmp_path / "ChinaSet_AllFiles"):
        first, second = read_shenzhen(folder)
        assert (first["label"], first["patient"]) == (0, "CHNCXR_0001_0") and "mask" not in first
        assert (second["label"], second["sex"], second["age"]) == (1, "F", 28)
        assert Path(second["mask"]).name == "CHNCXR_0327_1_mask.png"
