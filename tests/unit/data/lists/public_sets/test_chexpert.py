"""CheXpert as a fixture tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.chexpert import CHEXPERT_FINDINGS, read_chexpert


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_chexpert(tmp_path: Path) -> None:
    head = "Path,Sex,Age,Frontal/Lateral,AP/PA," + ",".join(CHEXPERT_FINDINGS) + "\n"
    place = "CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"
    side = "CheXpert-v1.0-small/valid/patient64541/study1/view2_lateral.jpg"
    _touch(tmp_path / Path(*Path(place).parts[1:]))
    _touch(tmp_path / Path(*Path(side).parts[1:]))
    values = ",".join(["1.0", "", "-1.0", *["0.0"] * 11])
    (tmp_path / "train.csv").write_text(f"{head}{place},F,68,Frontal,AP,{values}\n")
    (tmp_path / "valid.csv").write_text(f"{head}{side},F,68,Lateral,,{values}\n")
    first, second = read_chexpert(tmp_path)
    assert first["label"][:3] == [1, 0, -1] and first["view"] == "AP" and first["patient"] == "patient00001"
    assert second["view"] == "LATERAL" and second["split"] == "validation"


def test_views_from_file_names_and_labels_that_are_none(tmp_path: Path) -> None:
    for name in ("view1_frontal.jpg", "view2_lateral.jpg"):
        _touch(tmp_path / "test" / "patient1" / "study1" / name)
    place = "CheXpert/test/patient1/study1/view"
    (tmp_path / "test.csv").write_text(f"Path;Edema\n{place}1_frontal.jpg;1\n{place}2_lateral.jpg;\n")
    first, second = read_chexpert(tmp_path)
    assert (first["view"], second["view"]) == ("FRONTAL", "LATERAL")
    assert sum(first["label"]) == 1 and sum(second["label"]) == 0
    (tmp_path / "test.csv").write_text(f"Path,Edema\n{place}1_frontal.jpg,maybe\n")
    with pytest.raises(DatalistError, match="must be 1, 0, -1 or empty, got 'maybe' in the column 'Edema'"):
        read_chexpert(tmp_path)


def test_batch_folders_of_the_full_size_download(tmp_path: Path) -> None:
    for batch, patient in (("batch 2 (train 1)", 1), ("batch 3 (train 2)", 30000), ("batch 1 (validate & csv)", 64541)):
        _touch(tmp_path / f"CheXpert-v1.0 {batch}" / f"patient{patient:05d}" / "study1" / "view1_frontal.jpg")
    lines = [f"CheXpert-v1.0/train/patient{number:05d}/study1/view1_frontal.jpg,Female,68" for number in (1, 30000)]
    (tmp_path / "train.csv").write_text("\n".join(["Path,Sex,Age", *lines]))
    (tmp_path / "valid.csv").write_text(
        "Path,Sex,Age\nCheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg,Unknown,0"
    )
    items = read_chexpert(tmp_path)
    assert [(item["split"], item["patient"]) for item in items] == [
        ("training", "patient00001"), ("training", "patient30000"), ("validation", "patient64541")
    ]  # fmt: skip
    assert (items[0]["sex"], items[0]["age"]) == ("F", 68) and not {"sex", "age"} & set(items[2])
