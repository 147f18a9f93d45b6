from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor, decollate_batch, list_data_collate
from torch.nn import functional as F

from monai_anat.data import synthetic_radiograph
from monai_anat.transforms import CropDarkBordersd, RestoreBordersd
from monai_anat.transforms.borders import dark_border_box


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.as_tensor(synthetic_radiograph((96, 80))[0], dtype=torch.float32)[None] * 0.9 + 0.1


def test_black_frames_and_letters_in_them_are_outside_the_box(picture) -> None:
    framed = F.pad(picture, (11, 7, 20, 3))
    framed[:, 2:8, 3:6] = 1  # a burned-in letter, narrower than the share of bright pixels
    assert dark_border_box(framed) == (slice(20, 116), slice(11, 91))


def test_noise_below_the_level_is_dark(picture) -> None:
    framed = F.pad(picture, (10, 10, 10, 10))
    noise = 0.05 * torch.rand(framed.shape, generator=torch.Generator().manual_seed(0))
    assert dark_border_box(torch.maximum(framed, noise)) == (slice(10, 106), slice(10, 90))


def test_dark_lungs_and_under_exposed_images_are_not_cropped(picture) -> None:
    lungs = picture.clone()
    lungs[:, 20:80, 10:35] = lungs[:, 20:80, 45:70] = 0
    assert dark_border_box(lungs) == (slice(0, 96), slice(0, 80))
    assert dark_border_box(torch.zeros(1, 20, 30)) == (slice(0, 20), slice(0, 30))
    point = torch.zeros(1, 20, 20)
    point[:, 9:11, 9:11] = 1
    assert dark_border_box(point) == (slice(0, 20), slice(0, 20)), "less than 40 % of a side would remain"


def test_cropping_can_be_undone_and_masks_follow_their_radiograph(picture) -> None:
    item = {"image": MetaTensor(F.pad(picture, (11, 7, 20, 3))), "label": MetaTensor(torch.ones(1, 119, 98))}
    crop = CropDarkBordersd(["image", "label"])
    out = crop(item)
    assert torch.equal(out["image"].as_tensor(), picture) and out["label"].shape == picture.shape
    back = crop.inverse(out)
    assert torch.equal(back["image"].as_tensor(), item["image"].as_tensor())
    assert back["label"].sum() == picture.numel() and back["image"].applied_operations == []


def test_predictions_return_to_the_grid_of_the_whole_image(picture) -> None:
    """A mask in the crop lies where it lies in the whole image, both resized to one square."""
    mask = (picture > 0.5).float()
    whole = F.interpolate(F.pad(mask, (20, 20, 24, 0))[None], size=(64, 64), mode="bilinear")[0]
    item = CropDarkBordersd("image")({"image": MetaTensor(F.pad(picture, (20, 20, 24, 0)))})
    prediction = F.interpolate(mask[None], size=(64, 64), mode="bilinear")[0]
    restored = RestoreBordersd("pred")({**item, "pred": prediction})["pred"]
    assert restored.shape == (1, 64, 64)
    assert ((restored > 0.5) == (whole > 0.5)).float().mean() > 0.95
    assert ((prediction > 0.5) == (whole > 0.5)).float().mean() < 0.85


def test_predictions_of_images_without_borders_stay_as_they_are(picture) -> None:
    item = CropDarkBordersd("image")({"image": MetaTensor(picture)})
    prediction = torch.rand(3, 32, 32)
    assert RestoreBordersd("pred")({**item, "pred": prediction})["pred"] is prediction


def test_the_crop_is_known_after_collating(picture) -> None:
    crop = CropDarkBordersd("image")
    items = [crop({"image": MetaTensor(F.pad(picture, (left, 20 - left, 0, 0)))}) for left in (20, 0)]
    batch = decollate_batch(list_data_collate(items))
    restored = [RestoreBordersd("pred")({**item, "pred": torch.ones(1, 10, 10)})["pred"] for item in batch]
    assert [int(part[0, 0, 0]) for part in restored] == [0, 1]
    assert [int(part.sum()) for part in restored] == [80, 80]


def test_arrays_stay_arrays() -> None:
    image = np.zeros((1, 10, 10), np.uint8)
    image[:, 2:, :] = 200
    assert CropDarkBordersd("image")({"image": image})["image"].shape == (1, 8, 10)
