"""Local contrast: what sharpening adds, and what equalization keeps."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_anat.transforms.local_contrast import equalize_regions, sharpen


def image_of(seed: int = 0) -> Tensor:
    return 0.3 + 0.4 * torch.rand(1, 32, 40, generator=torch.Generator().manual_seed(seed))


def test_sharpening_adds_the_differences_from_the_neighbors() -> None:
    image = image_of()
    out = sharpen(image, 0.05)
    row, column = 5, 7
    around = image[0, row - 1 : row + 2, column - 1 : column + 2]
    expected = image[0, row, column] + 0.05 * (image[0, row, column] - around).sum()
    torch.testing.assert_close(out[0, row, column], expected.clamp(0, 1))


def test_sharpening_leaves_flat_images_and_amount_zero_alone() -> None:
    flat = torch.full((2, 8, 9), 0.4)
    torch.testing.assert_close(sharpen(flat, 0.5), flat)
    torch.testing.assert_close(sharpen(image_of(), 0.0), image_of())


def test_both_stay_in_range_and_leave_their_input_alone() -> None:
    for change in (lambda x: sharpen(x, 0.5), lambda x: equalize_regions(x, 4.0)):
        image = image_of()
        out = change(image)
        assert torch.equal(image, image_of())
        assert out.shape == image.shape
        assert out.dtype == torch.float32
        assert 0 <= out.min() <= out.max() <= 1
        assert (out - image).abs().max() > 0.05


def test_equalization_is_blind_to_scale_and_stronger_with_a_higher_limit() -> None:
    image = image_of()
    torch.testing.assert_close(
        equalize_regions(0.5 * image + 0.1, 2.0), equalize_regions(image, 2.0), rtol=0, atol=0.02
    )
    low_contrast = (torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(1)) ** 8).clamp(0, 0.9)
    spreads = [equalize_regions(low_contrast, clip).std() for clip in (1.0, 8.0)]
    assert spreads[1] > spreads[0]


def test_equalization_of_a_flat_image_is_finite_and_channels_are_apart() -> None:
    assert torch.isfinite(equalize_regions(torch.full((1, 16, 16), 0.4), 2.0)).all()
    two = torch.cat([image_of(0), image_of(1)])
    assert torch.equal(equalize_regions(two, 2.0)[1:], equalize_regions(image_of(1), 2.0))


def test_rounding_beyond_the_range_is_taken() -> None:
    image = image_of()
    image[0, :4, :4], image[0, 4:8, :4] = 1 + 1e-6, -1e-6
    out = equalize_regions(image, 2.0)
    torch.testing.assert_close(out, equalize_regions(image.clamp(0, 1), 2.0))


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"amount must be at least 0, got -1"):
        sharpen(image_of(), -1)
    with pytest.raises(ValueError, match=r"clip must be positive, got 0"):
        equalize_regions(image_of(), 0)
