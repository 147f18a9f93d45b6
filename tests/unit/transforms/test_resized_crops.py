"""Random resized crops: the law of their boxes, exactness of the resampling, and where a MetaTensor then lies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from monai.data import MetaTensor
from torch import Tensor

from monai_anat.transforms import RandResizedCrop, RandResizedCropd, resized_crop
from monai_anat.transforms.resized_crops import draw_resized_crop_box


def box_of(corner: list[int], sides: list[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array([corner, sides])


def whole(pixels: Tensor) -> np.ndarray[Any, np.dtype[np.int64]]:
    return box_of([0] * (pixels.ndim - 1), list(pixels.shape[1:]))


def ramp(*shape: int) -> Tensor:
    """Channel a is the place of the pixel's middle along axis a, in [0, 1]."""
    axes = [(torch.arange(side) + 0.5) / side for side in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


# ---------------------------------------------------------------------- boxes


@pytest.mark.parametrize("shape", [(100, 100), (80, 140), (40, 50, 60)])
def test_boxes_lie_inside_and_keep_area_and_ratio(shape: tuple[int, ...]) -> None:
    R = np.random.RandomState(0)
    boxes = np.stack([draw_resized_crop_box(R, shape) for _ in range(2000)])  # (n, 2, d)
    assert (boxes[:, 0] >= 0).all() and (boxes[:, 1] >= 1).all()
    assert (boxes.sum(1) <= shape).all()
    area = boxes[:, 1].prod(1) / np.prod(shape)
    assert area.min() == pytest.approx(0.2, abs=0.03)
    ratio = boxes[:, 1, 1:] / boxes[:, 1, :1]
    assert ratio.min() >= 3 / 4 - 0.05 and ratio.max() <= 4 / 3 + 0.1
    assert ratio.min() < 0.8 and ratio.max() > 1.25


def test_the_share_is_uniform_and_the_ratio_uniform_in_its_logarithm() -> None:
    """Small shares always fit at the first try, so the law is seen undisturbed."""
    R = np.random.RandomState(0)
    boxes = np.stack([draw_resized_crop_box(R, (1000, 1000), area=(0.1, 0.3)) for _ in range(4000)])
    area = boxes[:, 1].prod(1) / 1e6
    log_ratio = np.log(boxes[:, 1, 1] / boxes[:, 1, 0])
    for value, low, high in ((area, 0.1, 0.3), (log_ratio, np.log(3 / 4), np.log(4 / 3))):
        assert np.histogram(value, 8, (low, high))[0] == pytest.approx(500, abs=100)
    room = 1000 - boxes[:, 1]
    assert np.histogram(boxes[:, 0] / room, 8, (0, 1))[0] == pytest.approx(1000, abs=130)


def test_an_image_that_no_ratio_fits_is_cut_in_the_middle() -> None:
    box = draw_resized_crop_box(np.random.RandomState(0), (30, 300), area=(0.9, 1.0))
    assert box.tolist() == [[0, 130], [30, 40]]
    assert draw_resized_crop_box(np.random.RandomState(0), (1, 1)).tolist() == [[0, 0], [1, 1]]


@pytest.mark.parametrize("shape", [(96, 16), (16, 96), (96, 16, 96), (16, 96, 32)])
@pytest.mark.parametrize("ratio", [(1.0, 2.0), (0.5, 1.0), (1.0, 1.0)])
def test_the_box_in_the_middle_keeps_ratios_that_are_not_symmetric(
    shape: tuple[int, ...], ratio: tuple[float, float]
) -> None:
    _, side = draw_resized_crop_box(np.random.RandomState(0), shape, area=(0.9, 1.0), ratio=ratio)
    assert all(ratio[0] <= width / side[0] <= ratio[1] for width in side[1:]), side
    # nothing higher fits, and nothing wider
    assert side[0] == min(shape[0], *(width / ratio[0] for width in shape[1:]))
    assert all(width == min(most, ratio[1] * side[0]) for width, most in zip(side[1:], shape[1:], strict=True))


@pytest.mark.parametrize("wrong", [{"area": (0.0, 1.0)}, {"area": (0.5, 0.2)}, {"area": (0.5, 1.5)}, {"ratio": (0, 1)}])
def test_impossible_ranges_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"area must be two shares in \(0, 1\] and ratio two positive numbers"):
        draw_resized_crop_box(np.random.RandomState(0), (8, 8), **wrong)


# ---------------------------------------------------------------------- resampling


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(6, 9), (5, 6, 7)])
def test_the_own_size_changes_nothing(mode: Any, shape: tuple[int, ...]) -> None:
    pixels = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resized_crop(pixels, whole(pixels), shape, mode), pixels)


@pytest.mark.parametrize(("shape", "size"), [((40, 64), (10, 16)), ((12, 16, 20), (6, 8, 5)), ((8, 8), (20, 12))])
def test_places_stay_in_place(shape: tuple[int, ...], size: tuple[int, ...]) -> None:
    """A ramp resampled is the ramp of the new size, away from the edges, along every axis."""
    out = resized_crop(ramp(*shape), box_of([0] * len(shape), list(shape)), size)
    inner = (slice(None), *(slice(2, -2) for _ in shape))
    torch.testing.assert_close(out[inner], ramp(*size)[inner], atol=1e-5, rtol=0)


def test_a_plane_agrees_with_interpolate_and_a_volume_with_its_planes() -> None:
    pixels = torch.rand(3, 20, 24, generator=torch.Generator().manual_seed(0))
    expected = F.interpolate(pixels[None, :, 2:18, 4:16], (8, 6), mode="bilinear", antialias=True)[0]
    torch.testing.assert_close(resized_crop(pixels, box_of([2, 4], [16, 12]), (8, 6)), expected)
    volume = pixels[..., None].expand(-1, -1, -1, 5)
    out = resized_crop(volume, box_of([2, 4, 0], [16, 12, 5]), (8, 6, 3))
    torch.testing.assert_close(out, expected[..., None].expand(-1, -1, -1, 3))


def test_shrinking_averages_and_does_not_alias() -> None:
    stripes = torch.zeros(1, 64, 64)
    stripes[:, :, ::2] = 1.0
    assert resized_crop(stripes, whole(stripes), 16)[..., 2:-2].sub(0.5).abs().max() < 0.05


def test_bicubic_stays_in_range_and_codes_become_gray_levels() -> None:
    codes = torch.zeros(1, 8, 8, dtype=torch.uint8)
    codes[:, 4:] = 255
    out = resized_crop(codes, whole(codes), 32, "bicubic")
    assert out.dtype == torch.float32
    assert out.min() == 0.0 and out.max() == 1.0


@pytest.mark.parametrize("box", [[[0, 1], [8, 8]], [[-1, 0], [4, 4]], [[0, 0], [0, 4]], [[0], [4]]])
def test_a_box_outside_is_refused(box: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"box must be \(corner, sides\) inside the image \(8, 8\)"):
        resized_crop(torch.zeros(1, 8, 8), np.array(box), 4)


# ---------------------------------------------------------------------- the transforms


@pytest.mark.parametrize("shape", [(20, 30), (16, 20, 12)])
def test_a_metatensor_knows_where_its_pixels_come_from(shape: tuple[int, ...]) -> None:
    """Gray levels that are places: the affine of the crop leads from its pixels to those places."""
    affine = torch.diag(torch.tensor([2.0, 3.0, 4.0, 1.0], dtype=torch.float64))
    affine[:3, 3] = torch.tensor([5.0, 6.0, 7.0])
    image = MetaTensor(ramp(*shape), affine=affine)
    crop = RandResizedCrop(8, area=(0.1, 0.1)).set_random_state(1)(image)
    assert isinstance(crop, MetaTensor)
    dims = len(shape)
    middle = [4] * dims
    index = torch.tensor([*middle, *[0] * (3 - dims), 1.0], dtype=torch.float64)
    millimeters = (crop.affine @ index)[:dims]
    place = crop.as_tensor()[(slice(None), *middle)] * torch.tensor(shape) - 0.5  # in pixels of the image
    expected = place * torch.tensor([2.0, 3.0, 4.0])[:dims] + torch.tensor([5.0, 6.0, 7.0])[:dims]
    torch.testing.assert_close(millimeters.float(), expected, atol=1e-3, rtol=0)


def test_keys_are_cut_alike_and_can_be_cut_again() -> None:
    sample = {"image": torch.rand(1, 20, 20), "label": torch.rand(1, 20, 20)}
    sample["label"] = sample["image"].clone()
    transform = RandResizedCropd(["image", "label"], 8).set_random_state(0)
    out = transform(sample)
    assert torch.equal(out["image"], out["label"])
    again = transform.transform(sample["image"], randomize=False)
    assert torch.equal(again, out["image"])
