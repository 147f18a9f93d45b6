from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np
import pytest

from monai_anat.data import DatalistError, mix_datalists
from monai_anat.data.lists.public_sets import (
    CHESTXRAY14_FINDINGS,
    CHEXPERT_FINDINGS,
    PUBLIC_SETS,
    read_chestxray14,
    read_chexpert,
    read_mimic_cxr,
    read_padchest,
    read_vindr_cxr,
)


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_chestxray14(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _touch(tmp_path / "images_001" / "images" / "00000001_000.png")
    _touch(tmp_path / "images_002" / "images" / "00000002_000.png")
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
        "00000001_000.png,Cardiomegaly|Edema,0,1,58,M,PA\n"
        "00000002_000.png,No Finding,0,2,58,M,AP\n"
        "00000003_000.png,No Finding,0,3,58,M,AP\n"
    )
    (tmp_path / "train_val_list.txt").write_text("00000001_000.png\n")
    (tmp_path / "test_list.txt").write_text("00000002_000.png\n")
    with caplog.at_level(logging.WARNING):
        first, second = read_chestxray14(tmp_path)
    assert "1 of 3 images" in caplog.text
    assert [CHESTXRAY14_FINDINGS[i] for i in np.flatnonzero(first["label"])] == ["Cardiomegaly", "Edema"]
    assert (first["patient"], first["view"], first["split"]) == ("1", "PA", "training")
    assert second["split"] == "test" and sum(second["label"]) == 0 and len(CHESTXRAY14_FINDINGS) == 14


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


def test_mimic_cxr(tmp_path: Path) -> None:
    _touch(tmp_path / "files" / "p10" / "p10000032" / "s50414267" / "abc.jpg")
    tables = {
        "metadata": "dicom_id,subject_id,study_id,ViewPosition\nabc,10000032,50414267,PA\n",
        "split": "dicom_id,study_id,subject_id,split\nabc,50414267,10000032,validate\n",
        "chexpert": "subject_id,study_id,Edema\n10000032,50414267,1.0\n",
    }
    for name, text in tables.items():
        with gzip.open(tmp_path / f"mimic-cxr-2.0.0-{name}.csv.gz", "wt") as handle:
            handle.write(text)
    (item,) = read_mimic_cxr(tmp_path)
    assert (item["patient"], item["view"], item["split"]) == ("10000032", "PA", "validation")
    assert item["label"][CHEXPERT_FINDINGS.index("Edema")] == 1


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


def test_padchest(tmp_path: Path) -> None:
    for name in ("0/a.png", "b.png", "c.png"):
        _touch(tmp_path / name)
    with gzip.open(tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", "wt") as handle:
        handle.write("ImageID,ImageDir,PatientID,Projection\na.png,0,7,PA\nb.png,1,8,L\nc.png,1,9,COSTAL\n")
    assert [(i["patient"], i["view"]) for i in read_padchest(tmp_path)] == [
        ("7", "PA"),
        ("8", "LATERAL"),
        ("9", "OBLIQUE"),
    ]


@pytest.mark.parametrize("read", PUBLIC_SETS.values())
def test_missing_tables_and_images_are_said(tmp_path: Path, read: object) -> None:
    with pytest.raises(DatalistError, match="folder must hold"):
        read(tmp_path)  # type: ignore[operator]
    (tmp_path / "PADCHEST_chest_x_ray_images_labels.csv").write_text("ImageID,PatientID\na.png,1\n")
    with pytest.raises(DatalistError, match="got none of 1"):
        read_padchest(tmp_path)


def test_mixtures_have_their_shares() -> None:
    sources = {
        name: [{"image": f"{name}{i}", "patient": f"{name}{i}"} for i in range(n)] for name, n in (("a", 90), ("b", 10))
    }
    assert len(mix_datalists(sources)) == 100
    mixed = mix_datalists(sources, {"a": 1, "b": 1}, seed=1)
    count = {name: sum(item["source"] == name for item in mixed) for name in sources}
    assert count == {"a": 50, "b": 50}
    assert {item["image"] for item in mixed if item["source"] == "b"} == {f"b{i}" for i in range(10)}
    assert mixed == mix_datalists(sources, {"a": 1, "b": 1}, seed=1) != mix_datalists(sources, {"a": 1, "b": 1}, seed=2)
    assert len(mix_datalists(sources, {"a": 3, "b": 1}, length=7)) == 7
    for weights in ({"a": 1}, {"a": 1, "b": 0}):
        with pytest.raises(ValueError, match="weights must be positive"):
            mix_datalists(sources, weights)
    with pytest.raises(ValueError, match="got none in 'a'"):
        mix_datalists({"a": []}, {"a": 1}, length=3)
