from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import load_datalist, prepare_radiographs, pretraining_datalist
from monai_anat.data.reading.shards import open_index


@pytest.fixture
def source(write_radiographs: Callable[..., Path]) -> Path:
    """Twelve real pictures of six patients, in two kinds of file."""
    return write_radiographs("png", "tif")


@pytest.mark.parametrize("stratify", ["view", "kind", "label"])
def test_splits_are_drawn_by_patient_and_spread_strata(source: Path, tmp_path: Path, stratify: str) -> None:
    splits = {"training": 0.5, "test": 0.5}
    summary = prepare_radiographs(
        source,
        tmp_path / "out",
        size=48,
        patient_pattern=r"p(\d)_",
        key_file=tmp_path / "key",
        splits=splits,
        stratify=stratify,
    )
    assert summary.splits == {"training": 6, "test": 6}
    patients = [{item["patient"] for item in load_datalist(tmp_path / "out", split)} for split in splits]
    assert [len(group) for group in patients] == [3, 3] and not patients[0] & patients[1]


def test_splits_drawn_again_in_a_finished_folder_leave_the_pixels(source: Path, tmp_path: Path) -> None:
    words = {"size": 48, "patient_pattern": r"p(\d)_", "key_file": tmp_path / "key"}
    prepare_radiographs(source, tmp_path / "out", **words)
    shard = (tmp_path / "out" / "shard-00000.npy").read_bytes()
    prepare_radiographs(source, tmp_path / "out", splits={"training": 0.5, "test": 0.5}, **words)
    assert set(open_index(tmp_path / "out")["split"].tolist()) == {b"training", b"test"}
    assert (tmp_path / "out" / "shard-00000.npy").read_bytes() == shard


@pytest.mark.parametrize(("name", "told"), [("ANONYMOUS", True), (None, False)])
def test_a_stand_in_for_all_patients_is_told(
    tmp_path: Path, make_dicom: Callable[..., Path], name: str | None, told: bool
) -> None:
    (tmp_path / "in").mkdir()
    for number, item in enumerate(pretraining_datalist()[:24]):
        with Image.open(item["image"]) as image:
            values = np.asarray(image.resize((60, 60))).astype(np.uint16) * 16
        identity = name if name and number >= 2 else f"P{number // 3}"
        make_dicom(tmp_path / "in" / f"{number:02}", values, ViewPosition="PA", PatientID=identity)
    summary = prepare_radiographs(tmp_path / "in", tmp_path / "out", size=48, key_file=tmp_path / "key")
    assert any(note.startswith("22 of 24 images name one and the same patient") for note in summary.notes) is told
    assert "ANONYMOUS" not in summary.text()
