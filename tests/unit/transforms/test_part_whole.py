"""Concentric crops stay in their bands and around one middle; parts tile the image."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.transforms.part_whole import draw_concentric_boxes, part_boxes

AREAS = [(0.8, 1.0), (0.05, 0.1), *[(tenths / 10, tenths / 10 + 0.1) for tenths in range(1, 8)]]
RATIOS = [(3 / 4, 4 / 3), *[(2 / 3, 1.0), (1.0, 3 / 2)] * 4]


@pytest.mark.parametrize("shape", [(200, 200), (260, 200), (101, 160), (64, 33)])
def test_concentric_boxes_share_a_middle_and_keep_their_area(shape: tuple[int, int]) -> None:
    rounding = 1 / min(shape)
    for seed in range(50):
        boxes = draw_concentric_boxes(np.random.RandomState(seed), shape, AREAS, RATIOS)
        assert boxes.shape == (9, 2, 2)
        assert (boxes[:, 0] >= 0).all()
        assert (boxes.sum(1) <= shape).all()
        middles = boxes[:, 0] + boxes[:, 1] / 2
        assert np.abs(middles - np.asarray(shape) / 2).max() <= 0.5
        shares = boxes[:, 1].prod(1) / np.prod(shape)
        for share, (low, high) in zip(shares, AREAS, strict=True):
            assert low - 1.5 * rounding <= share <= high + 1.5 * rounding


def test_ratios_fill_their_range_where_the_boxes_fit() -> None:
    R = np.random.RandomState(0)
    boxes = draw_concentric_boxes(R, (2000, 2000), [(0.3, 0.4)] * 2000, [(2 / 3, 1.0), (1.0, 3 / 2)] * 1000)
    ratios = np.log(boxes[:, 1, 1] / boxes[:, 1, 0]) / np.log(1.5)
    for drawn, (low, high) in ((ratios[::2], (-1, 0)), (ratios[1::2], (0, 1))):
        assert (drawn.min(), drawn.max()) == pytest.approx((low, high), abs=0.01)
        assert drawn.mean() == pytest.approx((low + high) / 2, abs=0.03)
        assert drawn.std() == pytest.approx(12**-0.5, abs=0.02)


def test_a_ratio_that_does_not_fit_gives_way_and_the_area_stays() -> None:
    ((corner, sides),) = draw_concentric_boxes(np.random.RandomState(0), (100, 50), [(0.5, 0.5)], [(2.0, 3.0)]).tolist()
    assert (corner, sides) == ([25, 0], [50, 50])


@pytest.mark.parametrize(
    ("areas", "ratios"),
    [([(0, 0.5)], [(1, 1)]), ([(0.5, 1.1)], [(1, 1)]), ([(0.5, 0.4)], [(1, 1)]), ([(0.5, 1)], [(1, 1)] * 2)],
)
def test_bands_that_are_none_are_refused(areas: list[tuple[float, float]], ratios: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match=r"areas and ratios must be as many pairs \(smallest, largest\)"):
        draw_concentric_boxes(np.random.RandomState(0), (8, 8), areas, ratios)


def test_boxes_of_volumes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2D images, got spatial_shape=\(8, 8, 8\)"):
        draw_concentric_boxes(np.random.RandomState(0), (8, 8, 8), [(0.5, 1)], [(1, 1)])


@pytest.mark.parametrize(
    ("shape", "parts"), [((8, 8), 2), ((9, 7), 2), ((10, 11), 3), ((5, 4, 6), 2), ((4, 9), (1, 3))]
)
def test_parts_tile_the_image_in_row_major_order(shape: tuple[int, ...], parts: int | tuple[int, ...]) -> None:
    numbers, boxes = np.full(shape, -1), part_boxes(shape, parts)
    for number, (corner, sides) in enumerate(boxes):
        window = tuple(slice(c, c + s) for c, s in zip(corner, sides, strict=True))
        assert (numbers[window] == -1).all()
        numbers[window] = number
    assert (numbers >= 0).all()
    assert np.ptp(boxes[:, 1], axis=0).max() <= 1
    assert boxes[:, 0].tolist() == sorted(boxes[:, 0].tolist())


def test_fewer_pixels_than_parts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 8\) pixels for parts_per_side=2; take a larger image"):
        part_boxes((1, 8))
