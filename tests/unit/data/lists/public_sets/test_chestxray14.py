"""ChestX-ray14 as a fixture tree."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from monai_anat.data.lists.public_sets.chestxray14 import CHESTXRAY14_FINDINGS, read_chestxray14


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
    assert (first["age"], first["sex"]) == (58, "M")
    assert second["split"] == "test" and sum(second["label"]) == 0 and len(CHESTXRAY14_FINDINGS) == 14


def test_blank_cells_marks_and_a_trailing_comma(tmp_path: Path) -> None:
    """The Kaggle copy ends each line with a comma; office programs add a byte-order mark."""
    for name in ("a.png", "b.png", "c.png"):
        _touch(tmp_path / name)
    (tmp_path / "Data_Entry_2017.csv").write_text(
        "Image Index,Finding Labels,Patient ID,View Position,\na.png,Mass | Edema,1,,\nb.png,,2,PA,\n,Mass,3,PA,\n",
        encoding="utf-8-sig",
    )
    first, second = read_chestxray14(tmp_path)
    assert [CHESTXRAY14_FINDINGS[i] for i in np.flatnonzero(first["label"])] == ["Mass", "Edema"]
    assert first["view"] == "" and sum(second["label"]) == 0
