"""One flipped bit anywhere in a prepared folder is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from monai_anat.data import DatalistError, prepare_radiographs, verify_prepared_folder
from monai_anat.data.preparation.checksums import npy_header


@pytest.fixture
def prepared(write_radiographs: Callable[..., Path], tmp_path: Path) -> Path:
    prepare_radiographs(
        write_radiographs("png"), tmp_path / "out", size=32, key_file=tmp_path / "key", shard_bytes=7000
    )
    return tmp_path / "out"


def _flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


def test_header_is_what_numpy_reads(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy_header(3) + b"abc")
    assert np.load(tmp_path / "a.npy").tobytes() == b"abc"


def test_a_whole_folder_passes(prepared: Path) -> None:
    assert verify_prepared_folder(prepared) == 12
    assert len(list(prepared.glob("shard-*"))) > 1


@pytest.mark.parametrize(
    "name",
    [
        "shard-00000.npy", "index.npy", "datalist.json", "rejected.csv", "duplicates.csv", "thumbnails.npy",
        "summary.json", "contact_sheet.png", "checksums.json", ".prepare/journal.jsonl", ".prepare/thumbnails.u8",
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", [0.0, 0.03, 0.6, 0.999])
def test_one_flipped_bit_is_named(prepared: Path, name: str, where: float) -> None:
    path = prepared / name
    _flip(path, int(where * (path.stat().st_size - 1)))
    with pytest.raises(DatalistError) as caught:
        verify_prepared_folder(prepared)
    assert name in str(caught.value) and "is damaged" in str(caught.value)


def test_the_image_with_the_flipped_bit_is_named(prepared: Path) -> None:
    record = np.load(prepared / "index.npy")[7]
    shard = prepared / f"shard-{record['shard']:05d}.npy"
    _flip(shard, 128 + int(record["offset"]) + 5)
    with pytest.raises(DatalistError, match=rf"is damaged: index.npy#7: the pixels .* \({shard.name}, bytes \d+ to"):
        verify_prepared_folder(prepared)


def test_missing_files_and_unfinished_folders_are_named(prepared: Path, tmp_path: Path) -> None:
    (prepared / "shard-00001.npy").unlink()
    (prepared / "duplicates.csv").unlink()
    with pytest.raises(
        DatalistError, match=r"duplicates.csv: the file is missing; shard-00001.npy: the file is missing"
    ):
        verify_prepared_folder(prepared)
    with pytest.raises(DatalistError, match="one that `prepare` finished"):
        verify_prepared_folder(tmp_path)


def test_bytes_beyond_a_shard_are_found(prepared: Path) -> None:
    with (prepared / "shard-00000.npy").open("ab") as handle:
        handle.write(b"x")
    with pytest.raises(DatalistError, match=r"shard-00000.npy: the header or the length is wrong"):
        verify_prepared_folder(prepared)
