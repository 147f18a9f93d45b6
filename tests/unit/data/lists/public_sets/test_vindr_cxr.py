"""VinDr-CXR as a fixture tree."""

from __future__ import annotations

from pathlib import Path

from monai_anat.data.lists.public_sets.vindr_cxr import read_vindr_cxr


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_vindr_cxr_by_majority(tmp_path: Path) -> None:
    _touch(tmp_path / "train" / "aa.dicom")
    _touch(tmp_path / "test" / "bb.dicom")
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "image_labels_train.csv").write_text(
        "image_id,rad_id,Mass,Nodule\naa,R1,1,0\naa,R2,1,1\naa,R3,0,0\n"
    )
    (tmp_path / "annotations" / "image_labels_test.csv").write_text("image_id,Mass,Nodule\nbb,0,1\n")
    first, second = read_vindr_cxr(tmp_path)
    assert first["label"] == [1, 0] and first["split"] == "training" and "patient" not in first
    assert second["label"] == [0, 1] and second["split"] == "test"
