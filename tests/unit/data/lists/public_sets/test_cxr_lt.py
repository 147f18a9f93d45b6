"""CXR-LT as a fixture tree beside MIMIC-CXR-JPG."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.cxr_lt import cxr_lt_findings, read_cxr_lt


def test_labels_by_name_and_splits_by_table(tmp_path: Path) -> None:
    places = [f"files/p10/p1000003{number}/s1/a.jpg" for number in range(3)]
    for place in places:
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_bytes(b"x")
    tables = tmp_path / "miccai-2023_mimic-cxr-lt"
    tables.mkdir()
    train = tables / "miccai2023_mimic-cxr-lt_labels_train.csv"
    train.write_text(f"path,dicom_id,Adenopathy,Round(ed) Atelectasis\n{places[0]},x,0,1\nfiles/p10/gone.jpg,y,1,1\n")
    (tables / "miccai2023_mimic-cxr-lt_labels_val.csv").write_text(
        f"dicom_id,Round(ed) Atelectasis,Adenopathy,path\nx,0,1,{places[1]}\n"
    )
    (tables / "miccai2023_mimic-cxr-lt_labels_test.csv").write_text(f"path\n{places[2].removeprefix('files/')}\n")
    assert cxr_lt_findings(train) == ["Adenopathy", "Round(ed) Atelectasis"]
    items = {item["split"]: item for item in read_cxr_lt(tmp_path)}
    assert items["training"]["label"] == [0, 1] and items["training"]["patient"] == "10000030"
    assert items["validation"]["label"] == [1, 0]
    assert "label" not in items["test"] and items["test"]["image"] == str(tmp_path / places[2])
    train.write_text("image,Adenopathy\nx,1\n")
    with pytest.raises(DatalistError, match="must have a column path or fpath"):
        read_cxr_lt(tmp_path)
