"""What names of folders and files say."""

from __future__ import annotations

from pathlib import PurePath

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.folder_names import (
    compile_patient_pattern,
    is_mask_folder,
    mask_side,
    mask_stem,
    pair_key,
    patient_from_name,
    split_of,
)


@pytest.mark.parametrize(
    "name",
    ["mask", "Masks", "lung_masks", "ManualMask", "leftMask", "masks_png", "test_masks", "Lung Segmentation",
     "segmentations", "groundtruth", "GT", "labelsTr", "labelsTs"],
)  # fmt: skip
def test_names_of_mask_folders(name: str) -> None:
    assert is_mask_folder(name)


@pytest.mark.parametrize("name", ["images", "labels", "CXR_png", "train", "unmasked", "damask table", "patient 12"])
def test_names_of_other_folders(name: str) -> None:
    assert not is_mask_folder(name)


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("train/NORMAL/a.png", "training"),
        ("chest_xray/val/a.png", "validation"),
        ("Test/a.png", "test"),
        ("stage_2_test_images/a.dcm", "test"),
        ("CheXpert-v1.0 batch 2 (train 1)/patient1/a.jpg", "training"),
        ("imagesTs/a.nii.gz", "test"),
        ("train_val/a.png", "training"),
        ("test/train/a.png", "test"),
        ("chest/a.png", None),
        ("contest/latest/a.png", None),
        ("images/test.png", None),
        ("test.png", None),
    ],
)
def test_splits_that_folders_name(path: str, split: str | None) -> None:
    assert split_of(PurePath(path)) == split


def test_masks_are_matched_to_images_by_what_their_paths_share() -> None:
    image = pair_key(PurePath("train/images/a.png"))
    assert image == pair_key(PurePath("train/masks/a.png")) == pair_key(PurePath("train/Lung_Masks/a_mask.png"))
    assert image != pair_key(PurePath("test/masks/a.png"))
    assert mask_stem("MCUCXR_0001_0") is None and mask_stem("_mask") is None
    assert [mask_stem(f"a{end}") for end in ("_mask", "-label", " seg", ".gt", "_left_mask", "_lungmask")] == ["a"] * 6


@pytest.mark.parametrize(
    ("path", "side"),
    [
        ("ManualMask/leftMask/a.png", "left"),
        ("masks/right lung/a.png", "right"),
        ("masks/a_left_mask.png", "left"),
        ("masks/a_mask.png", None),
        ("masks/bright.png", None),
        ("left/right/a.png", None),
    ],
)
def test_sides_that_paths_of_masks_name(path: str, side: str | None) -> None:
    assert mask_side(PurePath(path)) == side


def test_patient_rules() -> None:
    assert patient_from_name("p12-x.png", r"p\d+") == "p12"
    assert patient_from_name("p12-x.png", compile_patient_pattern(r"p(\d+)")) == "12"
    assert patient_from_name("x", r"p\d+") is None
    assert patient_from_name("x", r"(a)?x") is None
    with pytest.raises(DatalistError, match=r"patient_pattern must be a regular expression, got '\(\\\\d': missing \)"):
        compile_patient_pattern(r"(\d")
