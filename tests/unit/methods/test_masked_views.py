"""Masked views: reproducible draws, masks, and error messages."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_anat.methods import RandMaskedViewsd
from monai_anat.transforms import RandDistort, resized_crop
from monai_anat.transforms.distortions import distort


def image_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_a_view_is_what_its_draw_says() -> None:
    image = image_of(1, 60, 50)
    views = RandMaskedViewsd(image_size=32, cell_size=8, flip_prob=0.5, distorter=RandDistort(), mean=0.5, std=0.25)
    flips, changed = set(), 0
    for seed in range(20):
        sample = views.set_random_state(seed)({"image": image})
        assert set(sample) == {"view_1", "target", "mask"}
        crop = resized_crop(image, views.draw.box, 32)
        crop = torch.flip(crop, [2]) if views.draw.flipped else crop
        torch.testing.assert_close(sample["target"], (crop - 0.5) / 0.25)
        torch.testing.assert_close(sample["view_1"], (distort(crop, views.draw.distortion) - 0.5) / 0.25)
        assert torch.equal(sample["mask"], views.mask)
        flips.add(views.draw.flipped)
        changed += not torch.equal(sample["view_1"], sample["target"])
    assert flips == {True, False}
    assert changed > 10


def test_one_seed_is_one_view_and_one_mask() -> None:
    views, image = RandMaskedViewsd(image_size=32, cell_size=8), image_of(1, 60, 50)
    one = views.set_random_state(3)({"image": image})
    two = pickle.loads(pickle.dumps(views)).set_random_state(3)({"image": image})
    other = views.set_random_state(4)({"image": image})
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert not torch.equal(one["mask"], other["mask"])


def test_there_is_no_flip_and_no_distortion_unless_asked_for() -> None:
    image = torch.zeros(1, 40, 40)
    image[:, :, :10] = 1
    views = RandMaskedViewsd(image_size=32, cell_size=8, area=(1.0, 1.0), mean=0.0, std=1.0)
    for seed in range(20):
        sample = views.set_random_state(seed)({"image": image})
        assert torch.equal(sample["view_1"], sample["target"])
        assert sample["view_1"][:, :, :16].mean() > sample["view_1"][:, :, 16:].mean()


@pytest.mark.parametrize(("size", "cell", "cells"), [((32, 48), 8, 24), ((16, 16, 32), (8, 8, 16), 8)])
def test_other_shapes_and_volumes(size: tuple[int, ...], cell: int | tuple[int, ...], cells: int) -> None:
    sample = RandMaskedViewsd(image_size=size, cell_size=cell, mask_ratio=0.5)(
        {"image": image_of(1, *[40] * len(size))}
    )
    assert sample["view_1"].shape == (1, *size)
    assert sample["mask"].shape == (cells,)
    assert sample["mask"].sum() == cells // 2


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"image_size=200 and cell_size=32; nearest is 192"):
        RandMaskedViewsd(image_size=200)
    for ratio in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match=rf"mask_ratio must be in \(0, 1\), got {ratio}"):
            RandMaskedViewsd(mask_ratio=ratio)
    with pytest.raises(ValueError, match=r"hides 4 of 4"):
        RandMaskedViewsd(image_size=64, mask_ratio=0.9)({"image": image_of(1, 80, 80)})
    with pytest.raises(ValueError, match=r"flip_prob must be a probability in \[0, 1\], got 2"):
        RandMaskedViewsd(flip_prob=2)
    with pytest.raises(ValueError, match=r"area must be two shares.*got \(0.5, 0.2\)"):
        RandMaskedViewsd(area=(0.5, 0.2))
    with pytest.raises(KeyError, match=r"sample has no 'image'"):
        RandMaskedViewsd()({"other": np.zeros((1, 4, 4))})
