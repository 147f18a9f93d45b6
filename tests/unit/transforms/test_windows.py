"""Quadrants and windows of cells: where they lie, and what they are put together from."""

from __future__ import annotations

import pytest
import torch

from monai_anat.transforms.windows import crop_windows, split_quadrants, window_cells


def places(*shape: int) -> torch.Tensor:
    return torch.stack(torch.meshgrid(*[torch.arange(side) for side in shape], indexing="ij"))


def test_quadrants_are_top_left_bottom_left_top_right_bottom_right() -> None:
    quadrants = split_quadrants(places(6, 8), 2)
    assert quadrants.shape == (4, 2, 3, 4)
    assert quadrants[:, :, 0, 0].tolist() == [[0, 0], [3, 0], [0, 4], [3, 4]]
    left, right = torch.cat([quadrants[0], quadrants[1]], 1), torch.cat([quadrants[2], quadrants[3]], 1)
    assert torch.equal(torch.cat([left, right], 2), places(6, 8))


def test_octants_of_a_batch_run_along_the_first_axis_first() -> None:
    volume = places(4, 6, 2)
    octants = split_quadrants(torch.stack([volume, volume + 100]), 3)
    assert octants.shape == (2, 8, 3, 2, 3, 1)
    corners = octants[0, :, :, 0, 0, 0].tolist()
    assert corners == [[2 * (i % 2), 3 * (i // 2 % 2), i // 4] for i in range(8)]
    assert torch.equal(octants[1], octants[0] + 100)
    with pytest.raises(ValueError, match=r"even sides, got \(4, 5\); take an even number of cells"):
        split_quadrants(torch.zeros(1, 4, 5), 2)


@pytest.mark.parametrize("grid", [(4, 5), (4, 3, 5)])
def test_the_pixels_of_a_window_are_those_of_its_cells(grid: tuple[int, ...]) -> None:
    dims, cell = len(grid), 3
    generator = torch.Generator().manual_seed(0)
    image = torch.rand((6, 2, *(side * cell for side in grid)), generator=generator)
    offsets = torch.stack([torch.randint(0, side - 1, (6,), generator=generator) for side in grid], 1)
    crops = crop_windows(image, offsets, 2, cell)
    numbers = torch.arange(torch.Size(grid).numel()).reshape(grid)
    cells = window_cells(offsets, 2, grid)
    for row, offset in enumerate(offsets.tolist()):
        window = tuple(slice(cell * o, cell * (o + 2)) for o in offset)
        assert torch.equal(crops[row], image[(row, slice(None), *window)])
        assert torch.equal(cells[row], numbers[tuple(slice(o, o + 2) for o in offset)].flatten())
    assert crops.shape == (6, 2, *[6] * dims)
