from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from monai_anat.data import DatalistError, radiograph_preprocessing, segmentation_datalist, write_embeddings
from monai_anat.data.preparation.embedding import pixel_hash


@pytest.fixture
def encoder() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 5, 8, stride=8), nn.Dropout(0.5))


ITEMS = segmentation_datalist("validation")
CHAIN = radiograph_preprocessing(32)


def test_embeddings_are_means_of_the_map_in_evaluation_mode(encoder: nn.Module, tmp_path: Path) -> None:
    progress = []
    write_embeddings(
        encoder,
        ITEMS,
        tmp_path,
        transform=CHAIN,
        patches=True,
        batch_size=3,
        on_progress=lambda p: progress.append(p.done),
    )
    images = torch.stack([CHAIN(item)["image"] for item in ITEMS])
    with torch.no_grad():
        expected = encoder.eval()(images)
    np.testing.assert_allclose(np.load(tmp_path / "embeddings.npy"), expected.mean((2, 3)), atol=1e-6)
    patches = np.load(tmp_path / "patches.npy")
    assert patches.shape == (8, 16, 5) and patches.dtype == np.float16
    np.testing.assert_allclose(patches[:, 5], expected[:, :, 1, 1], atol=1e-3)
    rows = (tmp_path / "index.csv").read_text().split()
    assert rows[0] == "row,pixels" and rows[1] == f"0,{pixel_hash(images[0])}"
    assert progress == [3, 6, 8] and sorted(p.name for p in tmp_path.iterdir()) == [
        "embeddings.npy",
        "index.csv",
        "patches.npy",
    ]


def test_a_stopped_run_goes_on(encoder: nn.Module, tmp_path: Path) -> None:
    calls = []

    def stopping(item: Mapping[str, Any]) -> Mapping[str, Any]:
        calls.append(item["image"])
        if len(calls) == 6:
            raise KeyboardInterrupt
        return CHAIN(item)

    with pytest.raises(KeyboardInterrupt):
        write_embeddings(encoder, ITEMS, tmp_path / "a", transform=stopping, batch_size=2)
    assert not (tmp_path / "a" / "embeddings.npy").exists()
    calls.clear()
    write_embeddings(
        encoder, ITEMS, tmp_path / "a", transform=lambda item: calls.append(item) or CHAIN(item), batch_size=2
    )
    assert len(calls) == 4
    write_embeddings(encoder, ITEMS, tmp_path / "b", transform=CHAIN, batch_size=2)
    np.testing.assert_array_equal(
        np.load(tmp_path / "a" / "embeddings.npy"), np.load(tmp_path / "b" / "embeddings.npy")
    )


def test_parquet_holds_hash_and_embedding(encoder: nn.Module, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    write_embeddings(encoder, ITEMS, tmp_path / "p", transform=CHAIN, form="parquet")
    write_embeddings(encoder, ITEMS, tmp_path / "n", transform=CHAIN)
    table = parquet.read_table(tmp_path / "p" / "embeddings.parquet").to_pydict()
    np.testing.assert_allclose(table["embedding"], np.load(tmp_path / "n" / "embeddings.npy"), atol=1e-6)
    assert table["pixels"] == [line.split(",")[1] for line in (tmp_path / "n" / "index.csv").read_text().split()[1:]]


def test_no_name_reaches_the_output(encoder: nn.Module, tmp_path: Path) -> None:
    write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN)
    for path in tmp_path.rglob("*"):
        assert b"hannover" not in path.read_bytes() and b"han-" not in path.read_bytes()


def test_arguments(encoder: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="form must be"):
        write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN, form="csv")
    with pytest.raises(DatalistError, match="at least one image"):
        write_embeddings(encoder, [], tmp_path, transform=CHAIN)
    (tmp_path / ".embed").mkdir()
    (tmp_path / ".embed" / "settings.json").write_text('{"count": 1}')
    with pytest.raises(DatalistError, match="out was begun with"):
        write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN)
