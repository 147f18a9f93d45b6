"""Masks of cells: how many are hidden, that every cell may be, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.transforms import draw_random_mask


@pytest.mark.parametrize(("grid", "ratio", "hidden"), [((14, 14), 0.75, 147), ((6, 6), 0.6, 22), ((2, 3, 4), 0.5, 12)])
def test_the_share_is_hidden_and_each_cell_as_often_as_another(
    grid: tuple[int, ...], ratio: float, hidden: int
) -> None:
    R = np.random.RandomState(0)
    masks = torch.stack([draw_random_mask(R, grid, ratio) for _ in range(2000)])
    assert masks.dtype == torch.bool
    assert masks.sum(1).unique().tolist() == [hidden]
    torch.testing.assert_close(masks.float().mean(0), torch.full((masks.shape[1],), ratio), rtol=0, atol=0.06)


def test_the_generator_says_all() -> None:
    one, two = (draw_random_mask(np.random.RandomState(5), (8, 8), 0.6) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, draw_random_mask(np.random.RandomState(6), (8, 8), 0.6))


@pytest.mark.parametrize(("ratio", "hidden"), [(0.99, 4), (0.1, 0)])
def test_a_ratio_that_leaves_nothing_is_refused(ratio: float, hidden: int) -> None:
    with pytest.raises(
        ValueError, match=rf"mask_ratio={ratio}, which hides {hidden} of 4; .*smaller cell_size \(now 2 x 2"
    ):
        draw_random_mask(np.random.RandomState(0), (2, 2), ratio)
