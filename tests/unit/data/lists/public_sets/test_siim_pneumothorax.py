"""SIIM-ACR Pneumothorax Challenge as a fixture tree."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.siim_pneumothorax import read_siim_pneumothorax


@pytest.mark.parametrize("header", ["ImageId, EncodedPixels", "ImageId,EncodedPixels"])
def test_all_regions_are_kept(tmp_path: Path, header: str) -> None:
    for name in ("dicom-images-train/s/t/a.dcm", "dicom-images-train/s/t/b.dcm", "dicom-images-test/s/c.dcm"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    table = tmp_path / "train-rle.csv"
    table.write_text(f"{header}\na, 1 2 3 4\na, 9 9\nb, -1\nc,-1\nd,-1\n")
    a, b, c = read_siim_pneumothorax(tmp_path)
    assert (a["label"], a["run_lengths"], a["split"]) == (1, ["1 2 3 4", "9 9"], "training")
    assert (b["label"], b["run_lengths"]) == (0, []) and c["split"] == "test"
    table.write_text(f"{header}\na,1 2\na,-1\n")
    with pytest.raises(DatalistError, match="names a with a mask in one row and without in another"):
        read_siim_pneumothorax(tmp_path)
