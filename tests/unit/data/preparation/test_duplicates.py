from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from monai_anat.data import DatalistError, check_near_duplicates, load_checked_datalist, pretraining_datalist
from monai_anat.data.preparation.duplicates import check_source, join_groups, near_duplicates, signatures
from monai_anat.data.preparation.thumbnails import thumbnail_of


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    found = []
    for item in pretraining_datalist()[:150]:
        with Image.open(item["image"]) as image:
            found.append(np.asarray(image))
    return found


def _jpeg(values: np.ndarray) -> np.ndarray:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "JPEG", quality=40)
    with Image.open(buffer) as image:
        return np.asarray(image)


def test_copies_are_found_and_other_patients_are_not(pictures: list[np.ndarray]) -> None:
    small = np.asarray(Image.fromarray(pictures[10]).resize((150, 150)))
    bright = np.clip(pictures[20].astype(float) * 1.15, 0, 255).astype(np.uint8)
    height, width = pictures[30].shape
    cut = pictures[30][height // 100 : -height // 100, width // 100 : -width // 100]
    everything = [*pictures, _jpeg(pictures[0]), small, bright, cut]
    pairs = {pair[:2] for pair in near_duplicates(np.stack([thumbnail_of(p) for p in everything]))}
    assert pairs == {(0, 150), (10, 151), (20, 152), (30, 153)}


def test_what_all_chests_share_does_not_make_them_alike(pictures: list[np.ndarray]) -> None:
    few = signatures(np.stack([thumbnail_of(picture) for picture in pictures[:40]]))
    many = signatures(np.stack([thumbnail_of(picture) for picture in pictures]))
    for vectors in (few, many):
        alike = np.abs(vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]
        assert np.median(alike) < 0.2 and alike.max() < 0.87


def test_thumbnails_of_floats_and_bytes_agree(pictures: list[np.ndarray]) -> None:
    first, second = thumbnail_of(pictures[0]), thumbnail_of(pictures[0] / np.float32(255))
    assert np.abs(first.astype(int) - second).max() <= 1
    lengths = np.linalg.norm(signatures(np.stack([first, second])), axis=1)
    np.testing.assert_allclose(lengths, 1, atol=1e-5)


def test_blocks_see_pairs_across_their_borders(monkeypatch: pytest.MonkeyPatch, pictures: list[np.ndarray]) -> None:
    thumbnails = np.stack([thumbnail_of(p) for p in [*pictures, pictures[3]]])
    monkeypatch.setattr("monai_anat.data.preparation.duplicates._BLOCK", 37)
    monkeypatch.setattr("monai_anat.data.preparation.duplicates._ROWS", 11)
    assert [pair[:2] for pair in near_duplicates(thumbnails)] == [(3, 150)]


def test_groups_that_share_copies_are_joined() -> None:
    pairs = [(0, 1, 1.0), (1, 2, 1.0), (4, 5, 1.0)]
    joined = join_groups(["d", "c", "b", "a", "e", "a"], pairs)
    assert joined[0] == joined[1] == joined[2] and joined[3] == joined[4] == joined[5] and joined[0] != joined[3]


def test_copy_across_splits_is_refused_by_name(tmp_path: Path, pictures: list[np.ndarray]) -> None:
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    Image.fromarray(_jpeg(pictures[0])).save(tmp_path / "b.png")
    Image.fromarray(pictures[1]).save(tmp_path / "c.png")
    a, b, c = ({"image": str(tmp_path / name)} for name in ("a.png", "b.png", "c.png"))
    with pytest.raises(DatalistError, match=r"a\.png \(training\) and .*b\.png \(test\), alike by"):
        check_near_duplicates({"training": [a, c], "test": [b]})
    check_near_duplicates({"training": [a, b], "test": [c]})
    check_near_duplicates({"training": [a]})


def test_cheap_bound_and_sorting_lose_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("monai_anat.data.preparation.duplicates._BLOCK", 16)
    monkeypatch.setattr("monai_anat.data.preparation.duplicates._ROWS", 8)
    generator = np.random.default_rng(0)
    first = generator.integers(0, 256, (300, 16, 16))
    mixed = (first * 0.6 + np.roll(first, 1, 0) * 0.4).round().astype(np.uint8)  # neighbors share an ingredient
    vectors = signatures(mixed)
    alike = vectors @ vectors.T
    for threshold in (0.15, 0.25):
        expected = {(i, j) for i, j in np.argwhere(alike >= threshold).tolist() if i < j}
        sure = {(i, j) for i, j in expected if alike[i, j] >= threshold + 2e-3}  # kept in half precision
        found = {pair[:2] for pair in near_duplicates(mixed, threshold)}
        assert len(sure) > 50
        assert sure <= found
        assert all(alike[pair] >= threshold - 2e-3 for pair in found)


def test_far_blocks_are_not_compared(monkeypatch: pytest.MonkeyPatch, pictures: list[np.ndarray]) -> None:
    """Half the pictures upside down make two heaps along the first axis, with room between them."""
    monkeypatch.setattr("monai_anat.data.preparation.duplicates._BLOCK", 8)
    monkeypatch.setattr("monai_anat.data.preparation.duplicates._ROWS", 8)
    upright = np.stack([thumbnail_of(p) for p in pictures[:64]])
    thumbnails = np.concatenate([upright, upright[:, ::-1]])
    blocks = []
    plain = torch.Tensor.amax
    monkeypatch.setattr(torch.Tensor, "amax", lambda self, dim: blocks.append(1) or plain(self, dim))
    assert list(near_duplicates(thumbnails, 0.99)) == []
    assert 16 <= len(blocks) < 100  # of 136


def test_splits_of_a_source_are_checked_before_training(
    tmp_path: Path, pictures: list[np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    Image.fromarray(pictures[0]).save(tmp_path / "a.png")
    Image.fromarray(_jpeg(pictures[0])).save(tmp_path / "b.png")
    check_source(tmp_path)  # no splits, nothing to compare
    assert len(load_checked_datalist(tmp_path)) == 2
    listed = {"training": [{"image": "a.png", "patient": "1"}], "test": [{"image": "b.png", "patient": "1"}]}
    (tmp_path / "list.json").write_text(json.dumps(listed))
    with pytest.raises(DatalistError, match=r"every patient must be in one split only.*'training' and 'test'"):
        check_source(tmp_path / "list.json")
    listed["test"][0]["patient"] = "2"
    (tmp_path / "list.json").write_text(json.dumps(listed))
    with pytest.raises(DatalistError, match=r"a\.png \(training\) and .*b\.png \(test\)"):
        load_checked_datalist(tmp_path / "list.json", "training")
    check_source(tmp_path / "list.json", most=1)
    assert "lists 2 images, too many to search" in caplog.text
