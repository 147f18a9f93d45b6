"""Masks of cells: how many are hidden, that every cell may be, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_anat.transforms.masks import draw_block_mask, draw_random_mask


@pytest.mark.parametrize(("grid", "ratio", "hidden"), [((14, 14), 0.75, 147), ((6, 6), 0.6, 22), ((2, 3, 4), 0.5, 12)])
def test_the_share_is_hidden_and_each_cell_as_often_as_another(
    grid: tuple[int, ...], ratio: float, hidden: int
) -> None:
    R = np.random.RandomState(0)
    masks = torch.stack([draw_random_mask(R, grid, ratio) for _ in range(2000)])
    assert masks.dtype == torch.bool
    assert masks.sum(1).unique().tolist() == [hidden]
    torch.testing.assert_close(masks.float().mean(0), torch.full((masks.shape[1],), ratio), rtol=0, atol=0.06)


@pytest.mark.parametrize("draw", [draw_random_mask, draw_block_mask])
def test_the_generator_says_all(draw: Callable[..., Tensor]) -> None:
    one, two = (draw(np.random.RandomState(5), (8, 8), 0.6) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, draw(np.random.RandomState(6), (8, 8), 0.6))


@pytest.mark.parametrize(
    ("grid", "ratio", "min_cells"),
    [((14, 14), 0.4, 16), ((8, 8), 0.4, 16), ((4, 4), 0.4, 1), ((3, 20), 0.72, 4), ((14, 14), 0.9, 16)],
)
def test_blocks_hide_more_than_the_share_by_at_most_the_smallest_block(
    grid: tuple[int, int], ratio: float, min_cells: int
) -> None:
    R = np.random.RandomState(0)
    masks = torch.stack([draw_block_mask(R, grid, ratio, min_cells=min_cells) for _ in range(300)])
    cells = grid[0] * grid[1]
    hidden = masks.sum(1)
    assert masks.shape == (300, cells)
    assert masks.dtype == torch.bool
    assert hidden.min() > ratio * cells
    assert hidden.max() <= ratio * cells + min_cells
    assert (~masks).any(1).all()
    assert masks.any(0).all()  # each cell now and then


def test_what_is_hidden_lies_in_blocks() -> None:
    """A hidden cell has hidden neighbors, far more often than by single cells of the same number."""
    R = np.random.RandomState(0)

    def share_with_hidden_right_neighbor(masks: list[Tensor]) -> float:
        maps = torch.stack(masks).view(-1, 14, 14)
        return float((maps[:, :, 1:] & maps[:, :, :-1]).sum() / maps[:, :, :-1].sum())

    blocks = [draw_block_mask(R, (14, 14), 0.4) for _ in range(200)]
    single = [draw_random_mask(R, (14, 14), 0.43) for _ in range(200)]
    assert share_with_hidden_right_neighbor(blocks) > 0.75
    assert share_with_hidden_right_neighbor(single) < 0.5


def test_upright_blocks_are_as_frequent_as_lying_ones() -> None:
    R = np.random.RandomState(0)
    maps = torch.stack([draw_block_mask(R, (14, 14), 0.2, min_cells=32) for _ in range(600)]).view(-1, 14, 14)
    height, width = (maps.any(axis).sum(1).float() for axis in (2, 1))
    assert abs((height - width).mean()) < 0.4
    assert (height > width + 2).float().mean() > 0.2
    assert (width > height + 2).float().mean() > 0.2


def test_the_shape_of_a_block_keeps_to_its_range() -> None:
    R = np.random.RandomState(0)
    for _ in range(50):  # one block
        block = draw_block_mask(R, (30, 30), 0.01, min_cells=100, aspect=(1.0, 1.0)).view(30, 30)
        assert (int(block.any(1).sum()), int(block.any(0).sum())) == (10, 10)
    assert draw_block_mask(R, (30, 30), 0.001, min_cells=1, aspect=(100.0, 100.0)).sum() == 1


@pytest.mark.parametrize(
    ("ratio", "min_cells", "most"), [(0.95, 16, "202.2 of 196"), (0.0, 16, "16 of 196"), (0.4, 0, "78.4 of 196")]
)
def test_blocks_that_hide_nothing_or_all_are_refused(ratio: float, min_cells: int, most: str) -> None:
    with pytest.raises(
        ValueError, match=rf"mask_ratio={ratio} and min_cells={min_cells}, which hide up to {most}; .*14 x 14 cells"
    ):
        draw_block_mask(np.random.RandomState(0), (14, 14), ratio, min_cells=min_cells)
    with pytest.raises(ValueError, match=r"two axes, got \(4, 4, 4\); draw_random_mask takes volumes"):
        draw_block_mask(np.random.RandomState(0), (4, 4, 4), 0.4)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.99, 4), (0.1, 0)])
def test_a_ratio_that_leaves_nothing_is_refused(ratio: float, hidden: int) -> None:
    with pytest.raises(
        ValueError, match=rf"mask_ratio={ratio}, which hides {hidden} of 4; .*smaller cell_size \(now 2 x 2"
    ):
        draw_random_mask(np.random.RandomState(0), (2, 2), ratio)
