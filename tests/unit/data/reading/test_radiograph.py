from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import Radiograph, RadiographError, read_radiograph, synthetic_radiograph
from monai_anat.data.reading.radiograph import decode


def test_result_is_frozen_and_typed(tmp_path: Path) -> None:
    Image.fromarray(np.round(synthetic_radiograph(40)[0] * 255).astype(np.uint8)).save(tmp_path / "a.png")
    read = read_radiograph(tmp_path / "a.png")
    assert isinstance(read, Radiograph) and read.pixels.dtype == np.float32
    with pytest.raises(AttributeError):
        read.spacing = (1.0, 1.0)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", r"empty \(0 bytes\)"),
        (b"PK\x03\x04 and more", "ZIP archive"),
        (b"%PDF-1.7", "PDF"),
        (b"\x1f\x8b\x08\x00 broken", "gzip"),
        (b"GIF89a", "GIF"),
        (bytes(np.random.default_rng(0).integers(100, 255, 500, dtype=np.uint8)), "encrypted"),
        (b"\x89PNG\r\n\x1a\nnothing", "damaged"),
        (b"\x08\x00\x05\x00garbage" * 10, "no pixel data|damaged|header"),
    ],
)
def test_files_that_are_not_radiographs_have_a_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(content)
    with pytest.raises(RadiographError, match=f"x.png as a radiograph: .*({reason})"):
        read_radiograph(path)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(RadiographError, match="no such file"):
            read_radiograph(path)


def test_error_crosses_processes_and_its_reason_names_no_file(tmp_path: Path) -> None:
    (tmp_path / "DoeJane.dcm").write_bytes(b"")
    with pytest.raises(RadiographError) as caught:
        decode(tmp_path / "DoeJane.dcm")
    again = pickle.loads(pickle.dumps(caught.value))
    assert str(again) == str(caught.value) and "DoeJane" not in again.reason


def test_pipes_do_not_block_and_circular_links_are_reported(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.dcm")
    with pytest.raises(RadiographError, match="pipe"):
        read_radiograph(tmp_path / "pipe.dcm")
    (tmp_path / "a.dcm").symlink_to(tmp_path / "b.dcm")
    (tmp_path / "b.dcm").symlink_to(tmp_path / "a.dcm")
    with pytest.raises(RadiographError, match="circle"):
        read_radiograph(tmp_path / "a.dcm")
