from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import (
    check_splits,
    classification_datalist,
    pretraining_datalist,
    read_radiograph,
    sample_folder,
    segmentation_datalist,
)

SPLITS = ("training", "validation", "test")


def test_counts_files_and_size_on_disk() -> None:
    assert len(pretraining_datalist()) == 200
    assert [len(segmentation_datalist(split)) for split in SPLITS] == [41, 8, 16]
    for item in pretraining_datalist() + [i for split in SPLITS for i in segmentation_datalist(split)]:
        assert Path(item["image"]).is_file() and item["patient"]
        with Image.open(item["image"]) as image:
            assert max(image.size) <= 320
    assert sum(path.stat().st_size for path in sample_folder().rglob("*") if path.is_file()) < 6e6


def test_no_patient_in_two_parts() -> None:
    parts = {split: segmentation_datalist(split) for split in SPLITS}
    check_splits(parts)
    check_splits({"pretraining": pretraining_datalist(), "test": parts["test"]})
    check_splits({"pretraining": pretraining_datalist(), "validation": parts["validation"]})


def test_classification_takes_the_images_of_the_nih_clinical_center_divided_by_patient() -> None:
    parts = {split: classification_datalist(split) for split in SPLITS}
    check_splits(parts)
    shipped = {item["image"] for item in pretraining_datalist()}
    for items in parts.values():
        assert all(item["image"] in shipped and Path(item["image"]).name.startswith("nih_") for item in items)
        views = [item["AP view"] for item in items]
        assert views.count("1") == views.count("0")
    with pytest.raises(ValueError, match="split must be one of"):
        classification_datalist("train")


def test_every_image_has_a_free_license_and_a_source() -> None:
    table = (sample_folder() / "attribution.csv").read_text().splitlines()
    rows = {row["file"]: row for row in csv.DictReader(table)}
    items = pretraining_datalist() + [i for split in SPLITS for i in segmentation_datalist(split)]
    assert {str(Path(item["image"]).relative_to(sample_folder())) for item in items} == set(rows)
    for row in rows.values():
        assert row["license"] in ("CC BY", "CC BY 3.0", "CC BY 4.0") or row["license"].startswith(
            "NIH Clinical Center: no"
        )
        assert row["url"].startswith("http") and row["source_id"]


def test_masks_are_two_lungs_darker_than_the_spine_right_one_at_the_left() -> None:
    darker = 0
    for split in SPLITS:
        for item in segmentation_datalist(split):
            pixels, mask = read_radiograph(item["image"]).pixels, np.asarray(Image.open(item["label"]))
            assert mask.shape == pixels.shape and set(np.unique(mask)) == {0, 1, 2}
            right, left = np.nonzero(mask == 1)[1].mean(), np.nonzero(mask == 2)[1].mean()
            assert right < left
            rows = np.nonzero(mask)[0]
            top, bottom, middle = int(np.percentile(rows, 40)), int(np.percentile(rows, 80)), int((right + left) / 2)
            spine = pixels[top:bottom, middle - 5 : middle + 5]
            darker += float(np.median(pixels[mask > 0])) < float(np.median(spine))
    # all but a few lungs that disease has made white
    assert darker >= 62
    with pytest.raises(ValueError, match="split must be one of"):
        segmentation_datalist("train")
