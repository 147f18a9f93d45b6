"""Cells inside another crop and soft matches equal their definition, cell by cell."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_anat.transforms import match_cells
from monai_anat.transforms.cell_matches import shifted_inside, soft_match_targets


def by_loops(shift: list[list[int]], grid: tuple[int, int], target: tuple[int, int], radius: int) -> Tensor:
    """The definition, entry by entry."""
    out = torch.zeros(len(shift), grid[0] * grid[1], target[0] * target[1])
    for b, (down, right) in enumerate(shift):
        for row in range(grid[0]):
            for column in range(grid[1]):
                r, c = row + down, column + right
                if not (0 <= r < target[0] and 0 <= c < target[1]):
                    continue
                for i in range(max(0, r - radius), min(target[0], r + radius + 1)):
                    for j in range(max(0, c - radius), min(target[1], c + radius + 1)):
                        value = math.exp(-((i - r) ** 2 + (j - c) ** 2) / 2)
                        out[b, row * grid[1] + column, i * target[1] + j] = value
    return out


SHIFTS = [[0, 0], [2, -1], [-3, 5], [9, 9], [-20, 0]]


@pytest.mark.parametrize("radius", [0, 1, 2])
@pytest.mark.parametrize(("grid", "target"), [((4, 4), (8, 8)), ((4, 6), (2, 3)), ((3, 5), (7, 4))])
def test_the_separable_form_equals_the_loops(grid: tuple[int, int], target: tuple[int, int], radius: int) -> None:
    targets = soft_match_targets(torch.tensor(SHIFTS), grid, target, radius)
    assert targets.shape == (5, grid[0] * grid[1], target[0] * target[1])
    torch.testing.assert_close(targets, by_loops(SHIFTS, grid, target, radius))


def test_sums_and_centers_of_the_papers_sizes() -> None:
    to_large = soft_match_targets(torch.tensor([[4, 6]]), (14, 14), (28, 28), radius=2)[0]
    torch.testing.assert_close(to_large.sum(1), torch.full((196,), 6.1689), rtol=1e-4, atol=0)  # no border is near
    places = (torch.arange(14) + 4)[:, None] * 28 + torch.arange(14) + 6
    assert torch.equal(to_large.argmax(1), places.flatten())
    assert (to_large.amax(1) == 1).all()
    to_small = soft_match_targets(torch.tensor([[-2, -3]]), (14, 14), (7, 7), radius=1)[0]
    assert to_small[3 * 14 + 4].sum().item() == pytest.approx(4.8976, rel=1e-4)  # cell (1, 1)
    assert (to_small.sum(1) > 0).sum() == 49
    assert to_small[0].sum() == 0


def test_inside_is_where_there_is_a_target() -> None:
    for grid, target in (((4, 4), (8, 8)), ((4, 6), (2, 3))):
        inside = shifted_inside(torch.tensor(SHIFTS), grid, target)
        assert inside.dtype == torch.bool
        targets = soft_match_targets(torch.tensor(SHIFTS), grid, target, radius=1)
        assert torch.equal(inside, (targets == 1).any(2))
        assert 0 < int(inside.sum()) < inside.numel()


def test_rows_and_columns_are_not_exchanged() -> None:
    targets = soft_match_targets(torch.tensor([[1, 0]]), (2, 2), (3, 3), radius=0)[0]
    assert targets.argmax(1).tolist() == [3, 4, 6, 7]


def test_without_softness_it_is_the_correspondence_of_two_crops() -> None:
    targets = soft_match_targets(torch.tensor([[2, -3]]), (4, 5), (4, 5), radius=0)[0]
    expected = match_cells((2, 0), (0, 3), (4, 5))
    assert torch.equal(torch.where(targets.any(1), targets.argmax(1), -1), expected)


def test_another_number_of_axes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shift must be \(B, 2\).*got \(2,\)"):
        shifted_inside(torch.zeros(2, dtype=torch.long), (2, 2), (2, 2))
