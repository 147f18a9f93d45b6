"""Matching cells get the same color, at the places where they lie."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import Rectangle

from monai_anat.visualize.crops import draw_overlapping_crops

GRID, CELL = 4, 8


def overlap(down: int, across: int) -> np.ndarray:
    """Correspondence of two crops of 4 x 4 cells, the second one moved by whole cells."""
    partner = np.full((GRID, GRID), -1)
    for row in range(GRID):
        for column in range(GRID):
            if 0 <= row - down < GRID and 0 <= column - across < GRID:
                partner[row, column] = (row - down) * GRID + column - across
    return partner.ravel()


def filled(axis) -> dict[tuple[float, float], tuple[float, ...]]:
    """Upper left corner -> color of every filled cell of a panel."""
    patches = [patch for patch in axis.patches if isinstance(patch, Rectangle) and patch.get_fill()]
    return {tuple(np.round(patch.get_xy(), 3)): tuple(np.round(patch.get_facecolor(), 4)) for patch in patches}


def test_matching_cells_share_color_and_lie_on_the_same_anatomy() -> None:
    image = np.random.default_rng(0).random((64, 64))
    corners = np.array([[10, 5], [10 + CELL, 5 + 2 * CELL]])
    views = [image[r : r + GRID * CELL, c : c + GRID * CELL] for r, c in corners]
    figure = draw_overlapping_crops(views[0], views[1], overlap(1, 2), GRID, image=image, corners=corners)
    source, first, second = (filled(axis) for axis in figure.axes)
    assert len(first) == len(second) == len(source) == 3 * 2
    for (x, y), color in first.items():
        assert second[(x - 2 * CELL, y - CELL)] == color
        assert source[(x + 5, y + 10)] == color
    assert len(set(first.values())) == len(first), "every cell has its own color"


def test_numbers_are_the_same_on_both_crops_and_not_too_many() -> None:
    view = np.random.default_rng(0).random((GRID * CELL, GRID * CELL))
    first, second = draw_overlapping_crops(view, view, np.arange(GRID * GRID), GRID).axes
    numbers = [[(text.get_text(), text.get_position()) for text in axis.texts] for axis in (first, second)]
    assert numbers[0] == numbers[1]
    assert 4 <= len(numbers[0]) <= 9


@pytest.mark.parametrize("grid", [3, (2, 4)])
def test_no_overlap_draws_nothing_over_the_views(grid) -> None:
    cells = 9 if grid == 3 else 8
    view = np.random.default_rng(0).random((1, 12, 12))
    figure = draw_overlapping_crops(view, view, np.full(cells, -1), grid)
    assert not filled(figure.axes[0])
    assert "0 of" in figure.axes[0].get_title()


def test_wrong_length_is_named() -> None:
    with pytest.raises(ValueError, match=r"got 9 for grid_size=4 \(16 cells\)"):
        draw_overlapping_crops(np.zeros((8, 8)), np.zeros((8, 8)), np.zeros(9), 4)
