from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from monai_anat.data import DatalistError, radiograph_preprocessing, segmentation_datalist, write_embeddings
from monai_anat.data.preparation.embedding import EmbedProgress, pixel_hash
from monai_anat.files import FolderInUseError


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
    assert progress == [3, 6, 8] and sorted(p.name for p in tmp_path.glob("[!.]*")) == [
        "embeddings.npy",
        "index.csv",
        "patches.npy",
    ]


def test_a_stopped_run_goes_on(encoder: nn.Module, tmp_path: Path) -> None:
    calls = []

    def stopping(item: Mapping[str, Any]) -> Mapping[str, Any]:
        calls.append(item["image"])
        if len(calls) == 7:  # the first image is read once more, to know the transform again
            raise KeyboardInterrupt
        return CHAIN(item)

    with pytest.raises(KeyboardInterrupt):
        write_embeddings(encoder, ITEMS, tmp_path / "a", transform=stopping, batch_size=2)
    assert not (tmp_path / "a" / "embeddings.npy").exists()
    calls.clear()
    write_embeddings(
        encoder, ITEMS, tmp_path / "a", transform=lambda item: calls.append(item) or CHAIN(item), batch_size=2
    )
    assert len(calls) == 5
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
    for path in filter(Path.is_file, tmp_path.rglob("*")):
        assert b"hannover" not in path.read_bytes() and b"han-" not in path.read_bytes()


def test_arguments(encoder: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="form must be"):
        write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN, form="csv")
    with pytest.raises(DatalistError, match="at least one image"):
        write_embeddings(encoder, [], tmp_path, transform=CHAIN)
    (tmp_path / ".embed").mkdir()
    (tmp_path / ".embed" / "settings.json").write_text('{"count": 1}')
    with pytest.raises(DatalistError, match="was begun with"):
        write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN)


def _other(encoder: nn.Module) -> nn.Module:
    other = nn.Sequential(nn.Conv2d(1, 5, 8, stride=8), nn.Dropout(0.5))
    other.load_state_dict({name: tensor + 0.01 for name, tensor in encoder.state_dict().items()})
    return other


def _begin(encoder: nn.Module, out: Path, items: Any = None, **arguments: Any) -> None:
    """Stop after some pieces."""

    def stop(progress: EmbedProgress) -> None:
        if progress.done >= 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_embeddings(
            encoder, items or ITEMS, out, **{"transform": CHAIN, "batch_size": 2, "on_progress": stop, **arguments}
        )


@pytest.mark.parametrize("finished", [False, True])
def test_a_folder_of_another_encoder_list_or_transform_is_refused(
    encoder: nn.Module, tmp_path: Path, finished: bool
) -> None:
    if finished:
        write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN, batch_size=2)
    else:
        _begin(encoder, tmp_path)
    plain: dict[str, Any] = {"encoder": encoder, "items": ITEMS, "transform": CHAIN, "batch_size": 2}
    for changed, message in (
        ({"encoder": _other(encoder)}, "another encoder"),
        ({"items": [*ITEMS[1:], ITEMS[0]]}, "other items or changed files, another transform"),
        ({"items": [ITEMS[0], *ITEMS[:0:-1]]}, "other items or changed files;"),
        ({"transform": radiograph_preprocessing(32, mean=0.4, std=0.2)}, "another transform"),
        ({"batch_size": 3}, "batch_size=2 then, 3 now"),
        ({"patches": True}, "patches=False then, True now"),
    ):
        with pytest.raises(DatalistError, match=f"was begun with .*{message}"):
            write_embeddings(out=tmp_path, **{**plain, **changed})
    write_embeddings(out=tmp_path, **plain)
    whole = write_embeddings(encoder, ITEMS, tmp_path / "whole", transform=CHAIN, batch_size=2)
    np.testing.assert_array_equal(np.load(tmp_path / "embeddings.npy"), np.load(whole / "embeddings.npy"))


def test_damaged_pieces_are_computed_again(encoder: nn.Module, tmp_path: Path) -> None:
    _begin(encoder, tmp_path / "a")
    pieces = sorted((tmp_path / "a" / ".embed").glob("*.npz"))
    pieces[0].write_bytes(pieces[0].read_bytes()[:-40])
    content = bytearray(pieces[1].read_bytes())
    content[len(content) // 4] ^= 1
    pieces[1].write_bytes(content)
    write_embeddings(encoder, ITEMS, tmp_path / "a", transform=CHAIN, batch_size=2)
    write_embeddings(encoder, ITEMS, tmp_path / "b", transform=CHAIN, batch_size=2)
    for name in ("embeddings.npy", "index.csv"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_a_second_process_is_refused_and_a_finished_folder_is_left_alone(encoder: nn.Module, tmp_path: Path) -> None:
    def second(progress: EmbedProgress) -> None:
        with pytest.raises(FolderInUseError, match="in use by embedding"):
            write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN)

    write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN, on_progress=second)
    changed = (tmp_path / "embeddings.npy").stat().st_mtime_ns
    progress: list[EmbedProgress] = []
    write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN, on_progress=progress.append)
    assert (tmp_path / "embeddings.npy").stat().st_mtime_ns == changed
    assert [(p.done, p.total) for p in progress] == [(8, 8)]


def test_a_file_that_cannot_be_read_is_named_with_the_cause_before_anything_is_written(
    encoder: nn.Module, tmp_path: Path
) -> None:
    (tmp_path / "cut.png").write_bytes(Path(ITEMS[0]["image"]).read_bytes()[:900])
    with pytest.raises(DatalistError, match=r"^cannot read .*cut.png as a radiograph: the image is damaged or trunc"):
        write_embeddings(encoder, [{"image": str(tmp_path / "cut.png")}], tmp_path / "out", transform=CHAIN)
    assert not (tmp_path / "out").exists()
    with pytest.raises(DatalistError, match=r"cut.png"):
        write_embeddings(encoder, [*ITEMS, {"image": str(tmp_path / "cut.png")}], tmp_path / "out", transform=CHAIN)


def test_a_full_disk_is_a_sentence_and_the_next_run_goes_on(
    encoder: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = np.savez

    def full(*arguments: Any, **content: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(DatalistError, match=r"disk of out=.* is full; free some space and give the same command again"):
        write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN)
    monkeypatch.setattr(np, "savez", real)
    write_embeddings(encoder, ITEMS, tmp_path, transform=CHAIN)
    assert len(np.load(tmp_path / "embeddings.npy")) == 8
