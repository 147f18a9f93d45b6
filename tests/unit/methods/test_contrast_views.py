"""Two views of one image: geometry, changes of appearance, and reproducible draws."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_anat.methods.contrast_views import RandContrastViewsd, ViewDraw, alter_view, check_area, cut_view
from monai_anat.transforms import Appearance, RandAppearance, RandDistort, resized_crop
from monai_anat.transforms.appearance import change_appearance
from monai_anat.transforms.distortions import Distortion, distort

STILL = RandAppearance(jitter_prob=0.0, blur_prob=0.0)


def image_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_a_view_is_what_its_draw_says() -> None:
    image = image_of(1, 60, 50)
    views = RandContrastViewsd(image_size=32, flip_prob=0.5, distorter=RandDistort(), mean=0.5, std=0.25)
    flips = set()
    for seed in range(20):
        sample = views.set_random_state(seed)({"image": image})
        for name, draw in zip(("view_1", "view_2"), views.draws, strict=True):
            crop = resized_crop(image, draw.box, 32)
            crop = torch.flip(crop, [2]) if draw.flipped else crop
            expected = distort(change_appearance(crop, draw.appearance), draw.distortion)
            torch.testing.assert_close(sample[name], (expected - 0.5) / 0.25)
            flips.add(draw.flipped)
        assert not np.array_equal(views.draws[0].box, views.draws[1].box)
        assert views.draws[0].appearance != views.draws[1].appearance
    assert flips == {True, False}


def test_cut_and_alter_are_pure_and_a_draw_of_nothing_leaves_the_crop() -> None:
    image, draw = image_of(1, 16, 16), ViewDraw(np.array([[4, 2], [8, 8]]))
    crop = cut_view(image, draw, 8)
    assert torch.equal(crop, image[:, 4:12, 2:10])
    assert torch.equal(alter_view(crop, draw), crop)
    before = crop.clone()
    alter_view(crop, ViewDraw(draw.box, True, Appearance(brightness=0.5, blur_sigma=1.0), Distortion()))
    assert torch.equal(crop, before)
    assert torch.equal(cut_view(image, ViewDraw(draw.box, flipped=True), 8), crop.flip(2))


def test_there_is_no_flip_and_no_distortion_unless_asked_for() -> None:
    """A mark on the left stays on the left in every draw that shows the whole width."""
    image = torch.zeros(1, 40, 40)
    image[:, :, :10] = 1
    views = RandContrastViewsd(image_size=32, area=(1.0, 1.0), appearance=STILL, mean=0.0, std=1.0)
    for seed in range(40):
        sample = views.set_random_state(seed)({"image": image})
        for name in ("view_1", "view_2"):
            assert sample[name][:, :, :16].mean() > sample[name][:, :, 16:].mean()
        assert all(draw.distortion == Distortion() and not draw.flipped for draw in views.draws)


def test_flips_come_as_often_as_asked_and_for_each_view_alone() -> None:
    views = RandContrastViewsd(image_size=8, flip_prob=0.25).set_random_state(0)
    both = []
    for _ in range(2000):
        views.randomize((20, 20))
        both.append([draw.flipped for draw in views.draws])
    assert np.mean(both, 0) == pytest.approx([0.25, 0.25], abs=0.03)
    assert np.mean([a and b for a, b in both]) == pytest.approx(1 / 16, abs=0.02)


def test_the_shares_of_the_image_are_those_of_the_argument() -> None:
    views = RandContrastViewsd(image_size=8, area=(0.3, 0.6)).set_random_state(0)
    shares = []
    for _ in range(300):
        views.randomize((100, 100))
        shares += [draw.box[1].prod() / 1e4 for draw in views.draws]
    assert 0.28 < min(shares) < 0.33 and 0.57 < max(shares) < 0.62


@pytest.mark.parametrize("kind", ["codes", "array", "volume"])
def test_codes_arrays_and_volumes(kind: str) -> None:
    images: dict[str, Any] = {
        "codes": (image_of(1, 50, 40) * 255).to(torch.uint8),
        "array": image_of(1, 50, 40).numpy(),
        "volume": image_of(1, 24, 22, 20),
    }
    sample = RandContrastViewsd(image_size=16).set_random_state(0)({"image": images[kind]})
    size = (1, 16, 16, 16) if kind == "volume" else (1, 16, 16)
    for name in ("view_1", "view_2"):
        assert sample[name].shape == size and sample[name].dtype == torch.float32


def test_same_seed_same_views_also_after_pickling() -> None:
    views, image = RandContrastViewsd(image_size=16, flip_prob=0.5, distorter=RandDistort()), image_of(1, 40, 40)
    copy = pickle.loads(pickle.dumps(views))
    for seed in range(5):
        first, second, third = (v.set_random_state(seed)({"image": image}) for v in (views, views, copy))
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert all(torch.equal(first[name], third[name]) for name in first)


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"flip_prob must be a probability in \[0, 1\], got 2"):
        RandContrastViewsd(flip_prob=2)
    with pytest.raises(ValueError, match=r"area must be two shares .* got \(0, 1.0\)"):
        RandContrastViewsd(area=(0, 1.0))
    with pytest.raises(ValueError, match=r"shares must be two shares .* the smaller first, got \(0.5, 0.2\)"):
        check_area("shares", (0.5, 0.2))
