"""Inverses of crops: predictions come back to their place through MONAI's Invertd."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Flipd, Invertd

from monai_anat.transforms import RandAnatomyCelld, RandOverlappingGridCropsd, RandResizedCropd, RandShufflePatchesd
from monai_anat.transforms.crop_inverse import paste_crop
from monai_anat.transforms.patch_shuffle import restore_patches

AFFINE = torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0], dtype=torch.float64))


def ramp(*shape: int) -> MetaTensor:
    """An image whose intensity grows along every axis, so that a misplaced pixel shows."""
    axes = torch.meshgrid(*[torch.arange(1.0, side + 1) for side in shape], indexing="ij")
    return MetaTensor(sum(axis * 10**i for i, axis in enumerate(axes))[None] / 1000, affine=AFFINE)


def inverted(chain: Compose, sample: dict, nearest: bool = False) -> MetaTensor:
    """``pred`` of the sample, through Invertd."""
    return Invertd("pred", chain, orig_keys="image", nearest_interp=nearest)(sample)["pred"]


@pytest.mark.parametrize("shape", [(16, 24), (16, 24, 8)])
@pytest.mark.parametrize("nearest", [True, False])
def test_a_cell_comes_back_to_its_place_and_the_rest_is_0(shape, nearest):
    chain = Compose([Flipd("image", 0), RandAnatomyCelld("image", level=2)]).set_random_state(3)
    image = ramp(*shape)
    sample = chain({"image": image})
    box = chain.transforms[1].transform.box
    sample["pred"] = sample["image"].clone()
    back = inverted(chain, sample, nearest)
    assert back.shape == image.shape
    torch.testing.assert_close(back.affine, image.affine)
    flipped = torch.zeros(image.shape)
    window = (slice(None), *[slice(first, first + side) for first, side in box.T])
    flipped[window] = image.as_tensor().flip(1)[window]
    assert torch.equal(back.as_tensor(), flipped.flip(1))


def test_a_resized_crop_comes_back_within_the_error_of_resampling():
    chain = Compose([RandResizedCropd("image", 64, area=(0.3, 0.6))]).set_random_state(1)
    image = ramp(40, 48)
    sample = chain({"image": image})
    box = chain.transforms[0].transform.box
    sample["pred"] = sample["image"].clone()
    back = inverted(chain, sample)
    window = (slice(None), *[slice(first, first + side) for first, side in box.T])
    inside = torch.zeros(image.shape, dtype=torch.bool)
    inside[window] = True
    assert (back.as_tensor()[~inside] == 0).all()
    assert (back.as_tensor() - image.as_tensor())[inside].abs().max() < 0.02
    torch.testing.assert_close(back.affine, image.affine)


def test_masks_keep_their_labels():
    chain = Compose([RandResizedCropd("image", 31)]).set_random_state(0)
    sample = chain({"image": ramp(40, 48)})
    sample["pred"] = MetaTensor((sample["image"].as_tensor() > sample["image"].median()).to(torch.uint8) * 2)
    back = inverted(chain, sample, nearest=True)
    assert set(back.unique().tolist()) == {0, 2}


def test_other_sizes_of_prediction_are_resized_into_the_box():
    back = paste_crop(torch.ones(2, 3, 3), np.array([[1, 2], [6, 6]]), (10, 10))
    assert back.sum() == 2 * 36
    assert (back[:, 1:7, 2:8] == 1).all()


def test_shuffled_patches_are_restored_by_invertd():
    chain = Compose([RandShufflePatchesd("image", patch_size=4)]).set_random_state(2)
    image = ramp(16, 24)
    sample = chain({"image": image})
    sample["pred"] = sample["image"].clone()
    expected = restore_patches(sample["image"], sample["order"], 4)
    back = inverted(chain, sample)
    assert torch.equal(back.as_tensor(), image.as_tensor())
    assert torch.equal(back.as_tensor(), expected.as_tensor())


def test_an_image_without_a_record_is_refused_with_the_way_out():
    crop = RandResizedCropd("image", 8)
    with pytest.raises(ValueError, match=r"RandResizedCropd can invert 'image' only if it is a MetaTensor.*LoadImaged"):
        crop.inverse({"image": torch.zeros(1, 8, 8)})


def test_overlapping_crops_refuse_to_be_inverted_instead_of_misplacing():
    chain = Compose([RandOverlappingGridCropsd("image", grid_size=2, cell_size=4, margin=1)])
    sample = chain({"image": ramp(16, 24)})
    sample["pred"] = sample["view_1"]
    with pytest.raises(RuntimeError) as error:
        inverted(chain, sample)
    assert "RandOverlappingGridCropsd cannot be inverted" in str(error.value.__cause__ or error.value)
