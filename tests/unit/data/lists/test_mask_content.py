"""Gray values tell masks from radiographs."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import pretraining_datalist, read_radiograph, segmentation_datalist, synthetic_radiograph
from monai_anat.data.lists.mask_content import looks_like_mask
from monai_anat.data.reading.radiograph import decode


def test_radiographs_are_no_masks_and_their_masks_are() -> None:
    for item in pretraining_datalist()[::8]:
        assert not looks_like_mask(read_radiograph(item["image"]).pixels), item["image"]
    for item in segmentation_datalist("test"):
        assert looks_like_mask(decode(item["label"]).pixels), item["label"]
    for size in (40, 128):
        pixels, mask = synthetic_radiograph(size)
        assert not looks_like_mask(pixels) and not looks_like_mask((pixels * 255).astype(np.uint8))
        assert looks_like_mask(mask)


@pytest.mark.parametrize("quality", [50, 75, 95])
@pytest.mark.parametrize("values", [(0, 255, 255), (0, 127, 255)])
def test_masks_that_jpeg_changed(quality: int, values: tuple[int, ...]) -> None:
    mask = np.asarray(values, np.uint8)[synthetic_radiograph(256)[1]]
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "JPEG", quality=quality)
    stored = np.asarray(Image.open(buffer))
    assert len(np.unique(stored)) > 10
    assert looks_like_mask(stored)


def test_radiographs_in_difficult_forms_are_no_masks() -> None:
    pixels = read_radiograph(pretraining_datalist()[3]["image"]).pixels
    bordered = np.pad(pixels, pixels.shape[0])
    assert not looks_like_mask(bordered), "eight ninths black"
    outlier = pixels.copy() * 0.1
    outlier[0, 0] = 1
    assert not looks_like_mask(outlier), "squeezed by one hot pixel"
    assert not looks_like_mask(np.clip(pixels * 3 - 1, 0, 1)), "hard window"


@pytest.mark.parametrize("bits", [3, 4, 5])
def test_coarse_radiographs_are_no_masks(bits: int) -> None:
    for item in pretraining_datalist()[:5]:
        with Image.open(item["image"]) as image:
            small = np.asarray(image.resize((96, 80)))
        assert not looks_like_mask(small >> (8 - bits))


def test_masks_of_many_structures() -> None:
    ribs = (np.arange(200)[:, None] // 10 + 1) * (np.arange(160) > 40)
    assert len(np.unique(ribs)) == 21 and looks_like_mask(ribs)


def test_blank_pictures_and_numbers_that_are_none() -> None:
    assert not looks_like_mask(np.zeros((20, 20)))
    assert not looks_like_mask(np.full((20, 20), np.nan))
