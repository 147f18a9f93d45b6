"""Folders in the layouts of public downloads: masks and test images are not trained on, and pairs are found."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import DatalistError, find_images, load_checked_datalist, load_datalist, synthetic_radiograph
from monai_anat.data.lists.datalists import load_splits, split_names


def _write(root: Path, *names: str, mask: bool = False) -> None:
    for number, name in enumerate(names):
        pixels, lungs = synthetic_radiograph(40, seed=number)
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(lungs * 100 if mask else (pixels * 255).astype(np.uint8)).save(path)


def _names(root: Path, items: list[dict[str, object]]) -> list[str]:
    return [str(Path(str(item["image"])).relative_to(root)) for item in items]


def test_images_and_masks_are_pairs(tmp_path: Path) -> None:
    _write(tmp_path, "images/a.png", "images/b.jpg", "images/c.png")
    _write(tmp_path, "masks/a.png", "masks/b_mask.png", mask=True)
    items = load_datalist(tmp_path)
    assert _names(tmp_path, items) == ["images/a.png", "images/b.jpg", "images/c.png"]
    labels = [item.get("label") for item in items]
    assert labels == [str(tmp_path / "masks/a.png"), str(tmp_path / "masks/b_mask.png"), None]


def test_masks_per_side_become_the_list_form(tmp_path: Path) -> None:
    """The layout of the Montgomery set."""
    _write(tmp_path, "CXR_png/a.png", "CXR_png/b.png")
    for side in ("left", "right"):
        _write(tmp_path, f"ManualMask/{side}Mask/a.png", f"ManualMask/{side}Mask/b.png", mask=True)
    for item in load_datalist(tmp_path):
        name = Path(item["image"]).name
        assert item["label"] == [str(tmp_path / f"ManualMask/{side}Mask/{name}") for side in ("right", "left")]


def test_equal_names_of_two_splits_keep_their_own_masks(tmp_path: Path) -> None:
    _write(tmp_path, "train/images/1.png", "test/images/1.png")
    _write(tmp_path, "train/masks/1.png", "test/masks/1.png", mask=True)
    for section, folder in (("training", "train"), ("test", "test")):
        (item,) = load_datalist(tmp_path, section)
        assert item["image"] == str(tmp_path / folder / "images/1.png")
        assert item["label"] == str(tmp_path / folder / "masks/1.png")


def test_folders_of_splits_are_sections_and_test_images_are_not_trained_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _write(tmp_path, "train/NORMAL/a.png", "train/PNEUMONIA/b.png", "val/c.png", "test/d.png", "loose.png")
    (tmp_path / "readme.txt").write_text("x")
    with caplog.at_level(logging.INFO):
        assert _names(tmp_path, load_datalist(tmp_path)) == ["loose.png", "train/NORMAL/a.png", "train/PNEUMONIA/b.png"]
    assert "6 files found, 3 images taken; passed over: 1 x .txt; 1 x in a folder of test images; 1" in caplog.text
    assert _names(tmp_path, load_datalist(tmp_path, "test")) == ["test/d.png"]
    assert split_names(tmp_path) == ["test", "training", "validation"]
    assert {name: len(items) for name, items in load_splits(tmp_path).items()} == {
        "training": 3, "validation": 1, "test": 1
    }  # fmt: skip
    assert _names(tmp_path, load_checked_datalist(tmp_path)) == _names(tmp_path, load_datalist(tmp_path))
    assert len(load_datalist(tmp_path / "test")) == 1, "asked for by name"
    with pytest.raises(DatalistError, match=r"section must be one of \['test', .* got 'holdout'; give the sub-folder"):
        load_datalist(tmp_path, "holdout")


def test_a_folder_of_test_images_alone_is_not_trained_on_unasked(tmp_path: Path) -> None:
    _write(tmp_path, "test/d.png")
    with pytest.raises(DatalistError, match="got 'training'; give the sub-folder itself"):
        load_datalist(tmp_path)


def test_what_is_passed_over_is_counted_with_reasons(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _write(tmp_path, "images/a.png", "images/b.png", "images/c_x.png")
    _write(tmp_path, "masks/a.png", "images/b_mask.png", "images/a_lungs.png", "other/a.png", "other/b.png", mask=True)
    (tmp_path / "images" / "Thumbs.db").write_bytes(b"x")
    (tmp_path / "images" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "images" / "noise.xyz").write_bytes(b"x" * 300)
    with caplog.at_level(logging.INFO):
        items = load_checked_datalist(tmp_path)
    assert _names(tmp_path, items) == ["images/a.png", "images/b.png", "images/c_x.png"]
    assert all(set(item) == {"image"} for item in items)
    told = caplog.text
    assert "11 files found, 3 images taken" in told
    for part in (
        "3 x the picture has few gray values, like a mask",
        "1 x the file lies in a folder of masks",
        "1 x the name ends like that of a mask",
        "1 x .db",
        "1 x hidden",
        "1 x the file neither ends nor begins like an image",
    ):
        assert part in told
    assert told.count("files found") == 1


@pytest.mark.parametrize("most", [300, 10])
def test_masks_among_images_are_found_by_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, most: int
) -> None:
    monkeypatch.setattr("monai_anat.data.lists.folder_images._ALL", most)
    _write(tmp_path, *(f"a/{number}.png" for number in range(10)), "b/0.png")
    _write(tmp_path, "a/1x.png", "a/5y.png", mask=True)
    assert len(find_images(tmp_path)) == 11
    monkeypatch.setattr("monai_anat.data.lists.folder_images._CHECKED", 5)
    assert len(find_images(tmp_path)) == (11 if most == 300 else 13)
    assert ("too many to look at; give a datalist, or prepare" in caplog.text) == (most == 10)


def test_labels_beside_images_are_masks_and_labels_alone_may_be_classes(tmp_path: Path) -> None:
    _write(tmp_path / "pairs", "images/a.png")
    _write(tmp_path / "pairs", "labels/a.png", mask=True)
    _write(tmp_path / "classes", "labels/edema/a.png", "labels/mass/b.png")
    assert len(find_images(tmp_path / "pairs")) == 1
    assert len(find_images(tmp_path / "classes")) == 2


def test_patients_from_paths(tmp_path: Path) -> None:
    _write(tmp_path, "p1/a.png", "p2/b.png", "c.png")
    assert [item.get("patient") for item in find_images(tmp_path, r"p(\d)/")] == [None, "1", "2"]


def test_a_hash_sign_in_a_path_is_a_letter(tmp_path: Path) -> None:
    _write(tmp_path, "case #1/a#2.png", "case #1/b.png")
    assert len(load_datalist(tmp_path)) == 2
    (tmp_path / "list.csv").write_text("image\ncase #1/a#2.png\ncase #1/b.png\n")
    assert [Path(item["image"]).name for item in load_datalist(tmp_path / "list.csv")] == ["a#2.png", "b.png"]
