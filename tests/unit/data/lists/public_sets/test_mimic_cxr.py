"""MIMIC-CXR-JPG as a fixture tree."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.chexpert import CHEXPERT_FINDINGS
from monai_anat.data.lists.public_sets.mimic_cxr import read_mimic_cxr


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


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


def test_truncated_tables_and_unknown_words_are_named(tmp_path: Path) -> None:
    lines = "dicom_id,subject_id,study_id\n" + "".join(f"{number:x},10000032,50414267\n" for number in range(9999))
    whole = gzip.compress(lines.encode())
    table = tmp_path / "mimic-cxr-2.0.0-metadata.csv.gz"
    table.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DatalistError, match=r"metadata.csv.gz is truncated or damaged"):
        read_mimic_cxr(tmp_path)
    table.write_bytes(whole)
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text("dicom_id,split\n1,trian\n")
    with pytest.raises(DatalistError, match=r"split.csv must be one of \['train', 'validate', 'test'\], got 'trian'"):
        read_mimic_cxr(tmp_path)
    (tmp_path / "mimic-cxr-2.0.0-split.csv").write_text("id,split\n1,train\n")
    with pytest.raises(DatalistError, match=r"split.csv must have the columns \['dicom_id'\]"):
        read_mimic_cxr(tmp_path)
