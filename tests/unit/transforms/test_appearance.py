"""Changes of appearance: what leaves an image as it is, exact cases, and the law of the draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_anat.transforms import Appearance, RandAppearance, RandAppearanced
from monai_anat.transforms.appearance import (
    adjust_brightness_contrast,
    change_appearance,
    gaussian_blur,
    rotate_in_plane,
    solarize,
)


def noise(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(0))


# ---------------------------------------------------------------------- brightness, contrast, solarisation


def test_brightness_multiplies_and_contrast_stretches_about_the_mean() -> None:
    pixels = noise(1, 8, 8) * 0.2 + 0.4
    torch.testing.assert_close(adjust_brightness_contrast(pixels, brightness=1.3), pixels * 1.3)
    stretched = adjust_brightness_contrast(pixels, contrast=1.5)
    torch.testing.assert_close(stretched, pixels.mean() + 1.5 * (pixels - pixels.mean()))
    flat = adjust_brightness_contrast(pixels, contrast=0.0)
    torch.testing.assert_close(flat, pixels.mean().expand_as(pixels))


def test_the_order_of_brightness_and_contrast_matters_where_gray_levels_are_cut() -> None:
    pixels = noise(1, 8, 8)
    one = adjust_brightness_contrast(pixels, 1.4, 0.6)
    two = adjust_brightness_contrast(pixels, 1.4, 0.6, contrast_first=True)
    bright = (pixels * 1.4).clamp(0, 1)
    torch.testing.assert_close(one, bright.mean() + 0.6 * (bright - bright.mean()))
    torch.testing.assert_close(two, ((pixels.mean() + 0.6 * (pixels - pixels.mean())) * 1.4).clamp(0, 1))
    assert (one - two).abs().max() > 0.01


def test_gray_levels_stay_between_0_and_1_and_the_input_as_it_was() -> None:
    pixels, before = noise(1, 8, 8), noise(1, 8, 8)
    for change in ((3.0, 1.0), (1.0, 5.0), (0.0, 1.0)):
        out = adjust_brightness_contrast(pixels, *change)
        assert out.min() >= 0 and out.max() <= 1
    assert torch.equal(pixels, before)


def test_solarising_twice_restores_all_but_the_middle_gray() -> None:
    pixels = torch.tensor([0.0, 0.2, 0.49, 0.8, 1.0])
    assert solarize(pixels).tolist() == pytest.approx([0.0, 0.2, 0.49, 0.2, 0.0])
    assert solarize(pixels, threshold=0.0).tolist() == pytest.approx((1 - pixels).tolist())


# ---------------------------------------------------------------------- blur


@pytest.mark.parametrize("shape", [(31, 31), (15, 15, 15)])
def test_blur_of_a_point_is_a_gaussian_of_that_spread(shape: tuple[int, ...]) -> None:
    pixels = torch.zeros(1, *shape)
    pixels[(0, *(side // 2 for side in shape))] = 1.0
    sigma = 1.5
    out = gaussian_blur(pixels, sigma)[0]
    assert out.sum().item() == pytest.approx(1.0, abs=1e-5)
    for axis, side in enumerate(shape):
        along = out.sum([a for a in range(len(shape)) if a != axis])
        distance = torch.arange(side) - side // 2
        assert (along * distance).sum().item() == pytest.approx(0.0, abs=1e-5)
        assert (along * distance**2).sum().sqrt().item() == pytest.approx(sigma, rel=0.03)  # cut at three sigma


def test_blur_leaves_flat_images_flat_and_does_nothing_at_zero() -> None:
    flat = torch.full((2, 9, 7), 0.3)
    torch.testing.assert_close(gaussian_blur(flat, 2.0), flat)
    pixels = noise(1, 6, 6)
    assert gaussian_blur(pixels, 0.0) is pixels
    with pytest.raises(ValueError, match=r"sigma must be at least 0 pixels, got -1"):
        gaussian_blur(pixels, -1)


def test_blur_treats_channels_apart_and_the_axes_alike() -> None:
    pixels = noise(2, 8, 8)
    out = gaussian_blur(pixels, 1.0)
    torch.testing.assert_close(out[1:], gaussian_blur(pixels[1:], 1.0))
    torch.testing.assert_close(gaussian_blur(pixels.transpose(1, 2), 1.0), out.transpose(1, 2))


# ---------------------------------------------------------------------- rotation


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("shape", [(2, 9, 9), (1, 8, 8, 3)])
def test_quarter_turns_are_exact_and_counter_clockwise(quarters: int, shape: tuple[int, ...]) -> None:
    pixels = noise(*shape)
    torch.testing.assert_close(
        rotate_in_plane(pixels, 90.0 * quarters), torch.rot90(pixels, quarters, (1, 2)), atol=1e-5, rtol=0
    )


def test_an_oblong_image_keeps_its_scale() -> None:
    """A disc in the middle of an oblong image stays a disc."""
    row, col = torch.meshgrid(torch.arange(41.0) - 20, torch.arange(81.0) - 40, indexing="ij")
    disc = torch.sigmoid(10 - (row**2 + col**2).sqrt())[None]
    torch.testing.assert_close(rotate_in_plane(disc, 33.0), disc, atol=0.02, rtol=0)


def test_back_and_forth_restores_the_middle_and_corners_are_filled() -> None:
    pixels = gaussian_blur(noise(1, 41, 41), 3.0)
    back = rotate_in_plane(rotate_in_plane(pixels, 20.0), -20.0)
    torch.testing.assert_close(back[:, 12:-12, 12:-12], pixels[:, 12:-12, 12:-12], atol=0.01, rtol=0)
    assert rotate_in_plane(torch.ones(1, 20, 20), 45.0)[0, 0, 0] == 0.0
    filled = rotate_in_plane(torch.ones(1, 20, 20), 45.0, fill=0.25)
    assert filled[0, 0, 0] == 0.25
    assert filled[0, 10, 10] == pytest.approx(1.0)
    assert rotate_in_plane(pixels, 0.0) is pixels


# ---------------------------------------------------------------------- draws


def test_a_record_is_applied_in_order() -> None:
    pixels = noise(1, 12, 12)
    record = Appearance(brightness=1.2, contrast=0.8, blur_sigma=0.7, solarized=True, angle=10.0)
    expected = rotate_in_plane(solarize(gaussian_blur(adjust_brightness_contrast(pixels, 1.2, 0.8), 0.7)), 10.0)
    torch.testing.assert_close(change_appearance(pixels, record), expected)
    assert change_appearance(pixels, Appearance()) is pixels


def test_draws_follow_their_ranges_and_probabilities() -> None:
    transform = RandAppearance(0.4, 0.3, 0.8, (0.1, 2.0), 0.5, 0.2, angle=30.0)
    R = np.random.RandomState(0)
    draws = [transform.draw(R) for _ in range(4000)]
    jittered = [d for d in draws if d.brightness != 1.0]
    assert len(jittered) / 4000 == pytest.approx(0.8, abs=0.03)
    for values, low, high in (
        ([d.brightness for d in jittered], 0.6, 1.4),
        ([d.contrast for d in jittered], 0.7, 1.3),
        ([d.blur_sigma for d in draws if d.blur_sigma > 0], 0.1, 2.0),
        ([d.angle for d in draws], -30.0, 30.0),
    ):
        counts, _ = np.histogram(values, 5, (low, high))
        assert counts.sum() == len(values)
        assert counts == pytest.approx(len(values) / 5, rel=0.15)
    for share, prob in (
        (sum(d.blur_sigma > 0 for d in draws), 0.5),
        (sum(d.solarized for d in draws), 0.2),
        (sum(d.contrast_first for d in draws), 0.5),
    ):
        assert share / 4000 == pytest.approx(prob, abs=0.03)


def test_the_fill_is_part_of_the_draw() -> None:
    transform = RandAppearance(jitter_prob=0.0, blur_prob=0.0, angle=30.0, fill=0.7).set_random_state(1)
    out = transform(torch.zeros(1, 16, 16))
    assert out[0, 0, 0] == pytest.approx(0.7)
    assert transform.appearance.fill == 0.7


def test_there_is_no_flip() -> None:
    """A mark on the left stays on the left in every draw, rotation aside."""
    pixels = torch.full((1, 32, 32), 0.2)
    pixels[:, 12:20, 2:8] = 0.9
    transform = RandAppearance(angle=30.0)
    for seed in range(50):
        out = transform.set_random_state(seed)(pixels)
        assert out[..., :16].mean() > out[..., 16:].mean()


def test_a_metatensor_turns_with_its_pixels() -> None:
    axes = torch.meshgrid(torch.arange(21.0) / 20, torch.arange(31.0) / 30, indexing="ij")
    image = MetaTensor(torch.stack(axes), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    transform = RandAppearance(jitter_prob=0.0, blur_prob=0.0, angle=30.0).set_random_state(0)
    out: Any = transform(image)
    assert abs(transform.appearance.angle) > 1
    place = out.as_tensor()[:, 8, 19] * torch.tensor([20.0, 30.0])
    index = torch.tensor([8.0, 19.0, 0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close((out.affine @ index)[:2].float(), place * torch.tensor([2.0, 3.0]), atol=1e-3, rtol=0)


def test_keys_change_alike_and_an_unchanged_image_is_a_copy() -> None:
    sample = {"image": noise(1, 8, 8), "other": noise(1, 8, 8)}
    out = RandAppearanced(["image", "other"], angle=10).set_random_state(3)(sample)
    assert torch.equal(out["image"], out["other"])
    same = RandAppearance(jitter_prob=0.0, blur_prob=0.0)(sample["image"])
    assert torch.equal(same, sample["image"]) and same is not sample["image"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"jitter_prob": 1.5}, r"jitter_prob must be a probability in \[0, 1\], got 1.5"),
        ({"brightness": -0.1}, r"must be at least 0, got brightness=-0.1"),
        ({"angle": -math.pi}, r"angle=-3.14"),
        ({"blur_sigma": (2.0, 0.1)}, r"blur_sigma must be two numbers of pixels, the smaller first"),
    ],
)
def test_what_cannot_be_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandAppearance(**wrong)
