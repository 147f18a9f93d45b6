"""Large and small crops: parity, overlap, and tokens that are the mean of their parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_anat.transforms.part_whole_crops import check_part_whole_grid, cut_part_whole_crops, draw_part_whole_crops

SCALES = [(2, 2), (1, 2), (2, 1), (1, 1)]


def numbered_cells(grid: int, cell: int) -> Tensor:
    """(2, g, g): every pixel carries the row and the column of its cell."""
    index = torch.arange(float(grid)).repeat_interleave(cell)
    return torch.stack(torch.meshgrid(index, index, indexing="ij"))


@pytest.mark.parametrize("scale", SCALES)
def test_places_of_the_paper(scale: tuple[int, int]) -> None:
    R = np.random.RandomState(0)
    draws = [draw_part_whole_crops(R, 32, 14, scale) for _ in range(2000)]
    for axis, step in enumerate(scale):
        large = np.array([draw.offset_large[axis] for draw in draws])
        small = np.array([draw.offset_small[axis] for draw in draws])
        apart = np.array([draw.offset[axis] for draw in draws])
        assert np.array_equal(apart, small - large)
        assert (large.min(), large.max()) == (0, 32 - 14 * step)
        assert (small.min(), small.max()) == (0, 18)
        assert (apart % step == 0).all()
        overlap = np.minimum(large + 14 * step, small + 14) - np.maximum(large, small)
        assert overlap.min() == (10 if step == 2 else 7)
    if scale == (2, 2):
        assert len({(draw.offset_large[0], draw.offset_small[0]) for draw in draws}) == 10 + 9 + 10 + 9 + 10


@pytest.mark.parametrize("scale", SCALES)
def test_every_token_of_the_large_crop_is_the_mean_of_the_cells_that_it_covers(scale: tuple[int, int]) -> None:
    source, R = numbered_cells(11, 4), np.random.RandomState(0)
    for _ in range(20):
        draw = draw_part_whole_crops(R, 11, 4, scale)
        large, small = cut_part_whole_crops(source, draw, 4, 4, scale)
        assert large.shape == small.shape == (2, 16, 16)
        large_tokens, small_tokens = (crop.unflatten(2, (4, 4)).unflatten(1, (4, 4)) for crop in (large, small))
        large_tokens, small_tokens = large_tokens.mean((2, 4)), small_tokens.mean((2, 4))  # (2, 4, 4)
        matched = 0
        for row in range(4):
            for column in range(4):
                first = [scale[0] * row - draw.offset[0], scale[1] * column - draw.offset[1]]
                if all(0 <= f < 4 for f in first):  # then the whole block lies in the small crop
                    block = small_tokens[:, first[0] : first[0] + scale[0], first[1] : first[1] + scale[1]]
                    assert block.shape[1:] == scale
                    torch.testing.assert_close(large_tokens[:, row, column], block.mean((1, 2)))
                    matched += 1
        assert matched > 0


def test_the_small_crop_keeps_its_pixels_and_the_large_one_is_the_bilinear_half() -> None:
    source = torch.rand(1, 40, 40, generator=torch.Generator().manual_seed(0))
    draw = draw_part_whole_crops(np.random.RandomState(1), 10, 4, (2, 2))
    large, small = cut_part_whole_crops(source, draw, 4, 4, (2, 2))
    (r, c), (row, column) = draw.offset_small, draw.offset_large
    assert torch.equal(small, source[:, 4 * r : 4 * r + 16, 4 * c : 4 * c + 16])
    window = source[None, :, 4 * row : 4 * row + 32, 4 * column : 4 * column + 32]
    half = torch.nn.functional.interpolate(window, (16, 16), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(large, half)


def test_axes_may_differ() -> None:
    R = np.random.RandomState(0)
    for _ in range(50):
        draw = draw_part_whole_crops(R, (10, 14), (4, 6), (2, 2))
        assert max(draw.offset_large) <= 2
        large, small = cut_part_whole_crops(torch.zeros(1, 20, 28), draw, (4, 6), 2, (2, 2))
        assert large.shape == small.shape == (1, 8, 12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            (32, 13, (2, 2)),
            r"grid_size must be a multiple of scale.*=13 and scale=\(2, 2\); take an even grid",
        ),
        ((27, 14, (2, 2)), r"source_grid must be from 28 to 41 cells .* got 27; ACE uses 32"),
        ((42, 14, (2, 2)), r"source_grid must be from 28 to 41 cells .* always overlap, got 42"),
        ((32, 14, (0, 2)), r"scale must be whole numbers of at least 1"),
    ],
)
def test_crops_that_cannot_be_or_may_not_overlap_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_part_whole_grid(*arguments)
    with pytest.raises(ValueError, match=message):
        draw_part_whole_crops(np.random.RandomState(0), *arguments)
