from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_anat.data import (
    DatalistError,
    RadiographError,
    ShardDataset,
    load_datalist,
    prepare_radiographs,
    prepared_items,
    pretraining_datalist,
    read_radiograph,
)
from monai_anat.data.reading.shards import (
    INDEX_DTYPE,
    image_digest,
    open_index,
    read_shard_image,
    shard_name,
    shard_view,
)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number, item in enumerate(pretraining_datalist()[:6]):
        with Image.open(item["image"]) as image:
            image.resize((64, 50 + number)).save(tmp_path / "in" / f"p{number}_0.png")
    prepare_radiographs(
        tmp_path / "in",
        tmp_path / "out",
        size=40,
        patient_pattern=r"p(\d)_",
        key_file=tmp_path / "key",
        splits={"training": 0.5, "test": 0.5},
    )
    return tmp_path / "out"


def test_items_splits_and_workers(prepared: Path) -> None:
    whole = ShardDataset(prepared)
    assert len(whole) == 6 and whole[0]["image"].shape[1] == 40 and whole[0]["image"].dtype == torch.uint8
    parts = [ShardDataset(prepared, split) for split in ("training", "test")]
    assert [len(part) for part in parts] == [3, 3]
    loader = torch.utils.data.DataLoader(
        ShardDataset(prepared, transform=lambda item: item["image"].float().mean()), num_workers=2
    )
    torch.testing.assert_close(torch.cat(list(loader)), torch.stack([item["image"].float().mean() for item in whole]))
    again = pickle.loads(pickle.dumps(whole))
    assert torch.equal(again[3]["image"], whole[3]["image"])


def test_center_crop(prepared: Path) -> None:
    whole, cut = ShardDataset(prepared)[1]["image"], ShardDataset(prepared, crop=32)[1]["image"]
    top, left = (whole.shape[1] - 32) // 2, (whole.shape[2] - 32) // 2
    assert torch.equal(cut, whole[:, top : top + 32, left : left + 32])
    with pytest.raises(ValueError, match="prepared size 40"):
        ShardDataset(prepared, crop=41)


def test_views_cost_no_copy_and_cannot_be_written_to(prepared: Path) -> None:
    view = shard_view(prepared, 2)
    assert isinstance(view.base, np.memmap) or view.base is not None
    with pytest.raises(ValueError, match="read-only"):
        view[0, 0] = 1
    raw = ShardDataset(prepared, copy=False)[2]["image"]
    np.testing.assert_array_equal(raw[0], view)
    assert len({shard_view(prepared, row).tobytes() for row in range(6)}) == 6
    ShardDataset(prepared)[2]["image"].zero_()
    assert view.max() > 0


def test_datalist_of_a_prepared_folder_reads_like_any_other(prepared: Path) -> None:
    items = load_datalist(prepared, "training")
    assert len(items) == 3 and len(items[0]["patient"]) == 32
    row = int(items[0]["image"].rpartition("#")[2])
    np.testing.assert_allclose(read_radiograph(items[0]["image"]).pixels, shard_view(prepared, row) / 255, atol=1e-6)
    assert read_shard_image(items[0]["image"], label=True).pixels.dtype == np.uint8
    assert len(prepared_items(prepared, [0, 2])) == 2
    with pytest.raises(RadiographError, match="no such number"):
        read_radiograph(f"{prepared}/index.npy#99")
    with pytest.raises(RadiographError, match="no such number"):
        read_radiograph(f"{prepared}/index.npy#-1")


def test_million_images_open_at_once(tmp_path: Path) -> None:
    np.save(tmp_path / "index.npy", np.zeros(1_000_000, dtype=INDEX_DTYPE))
    start = time.perf_counter()
    assert len(ShardDataset(tmp_path)) == 1_000_000
    assert time.perf_counter() - start < 2


def test_folders_that_were_not_prepared(tmp_path: Path, prepared: Path) -> None:
    with pytest.raises(DatalistError, match="`prepare` finished"):
        ShardDataset(tmp_path)
    with pytest.raises(DatalistError, match=r"split must be one of \['test', 'training'\]"):
        ShardDataset(prepared, "validation")
    np.save(tmp_path / "index.npy", np.zeros(3))
    with pytest.raises(DatalistError, match="another version"):
        open_index(tmp_path)
    assert shard_name(0) == "shard-00000.npy"


def _flip_bit(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_one_flipped_bit_is_found_at_the_first_read(prepared: Path) -> None:
    index = open_index(prepared)
    _flip_bit(prepared / shard_name(0), 128 + int(index[2]["offset"]) + 100)
    dataset = ShardDataset(prepared)
    assert dataset[1]["image"].shape[0] == 1
    with pytest.raises(DatalistError, match=r"image 2 of .* is damaged: its pixels do not match their checksum"):
        dataset[2]
    with pytest.raises(RadiographError, match="prepared image is damaged"):
        read_radiograph(f"{prepared}/index.npy#2")
    assert ShardDataset(prepared, verify=False)[2]["image"].shape[0] == 1


def test_a_shard_that_was_cut_is_found(prepared: Path) -> None:
    last = int(open_index(prepared)[5]["offset"])
    flat = np.load(prepared / shard_name(0))
    np.save(prepared / shard_name(0), flat[: last + 10])
    with pytest.raises(DatalistError, match=r"image 5 of .* is damaged"):
        ShardDataset(prepared)[5]


def test_a_file_with_a_number_sign_in_its_name_is_no_prepared_image(tmp_path: Path) -> None:
    pixels = np.arange(2000, dtype=np.uint8).reshape(40, 50)
    folder = tmp_path / "x.npy#old"
    folder.mkdir()
    for name in ("index.npy#12", "scan #2.png"):
        Image.fromarray(pixels).save(folder / name, format="PNG")
        np.testing.assert_allclose(read_radiograph(folder / name).pixels, pixels / 255, atol=1e-6)


def test_the_checksum_depends_on_size_and_pixels() -> None:
    values = np.arange(6, dtype=np.uint8)
    digests = {image_digest(values.reshape(shape)) for shape in ((2, 3), (3, 2))} | {image_digest(values[None] + 1)}
    assert len(digests) == 3
