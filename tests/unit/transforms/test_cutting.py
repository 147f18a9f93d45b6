"""Cut-outs and swapped blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.transforms.cutting import cut_out, draw_swaps, swap_boxes

BOXES_2D = np.array([[[2, 3], [4, 5]], [[5, 6], [6, 3]]])
BOXES_3D = np.array([[[1, 0, 2], [2, 3, 2]]])


def _inside(shape: tuple[int, ...], boxes: np.ndarray) -> torch.Tensor:
    mask = torch.zeros(shape, dtype=torch.bool)
    for start, side in boxes:
        mask[tuple(slice(a, a + b) for a, b in zip(start, side, strict=True))] = True
    return mask


@pytest.mark.parametrize(("shape", "boxes"), [((12, 12), BOXES_2D), ((4, 5, 6), BOXES_3D)])
def test_what_is_cut_is_zero_and_the_rest_stays(shape: tuple[int, ...], boxes: np.ndarray) -> None:
    image, inside = 0.1 + torch.rand(2, *shape), _inside(shape, boxes)
    cut, kept = cut_out(image, boxes), cut_out(image, boxes, outside=True)
    assert (cut[:, inside] == 0).all()
    assert torch.equal(cut[:, ~inside], image[:, ~inside])
    assert torch.equal(cut + kept, image)


def test_swapped_boxes_change_places_and_the_rest_stays() -> None:
    image = torch.arange(64.0).reshape(1, 8, 8)
    pairs = np.array([[[[0, 1], [2, 3]], [[5, 4], [2, 3]]]])
    out = swap_boxes(image, pairs)
    assert torch.equal(out[:, 0:2, 1:4], image[:, 5:7, 4:7])
    assert torch.equal(out[:, 5:7, 4:7], image[:, 0:2, 1:4])
    outside = ~_inside((8, 8), pairs[0])
    assert torch.equal(out[:, outside], image[:, outside])
    assert torch.equal(swap_boxes(out, pairs), image)


def test_pairs_are_swapped_one_after_the_other() -> None:
    image = torch.arange(3.0).reshape(1, 1, 3)
    first, second = [[[0, 0], [1, 1]], [[0, 1], [1, 1]]], [[[0, 2], [1, 1]], [[0, 1], [1, 1]]]
    assert swap_boxes(image, np.array([first, second])).flatten().tolist() == [1, 2, 0]


@pytest.mark.parametrize("shape", [(20, 31), (12, 9, 14)])
def test_the_boxes_of_a_pair_never_overlap_and_lie_inside(shape: tuple[int, ...]) -> None:
    rng, found = np.random.RandomState(0), 0
    for _ in range(300):
        sides = rng.randint(1, 7, (5, len(shape)))
        pairs = draw_swaps(rng, shape, sides)
        found += len(pairs)
        for one, two in pairs:
            assert (one[1] == two[1]).all()
            assert (one[0] >= 0).all() and (one[0] + one[1] <= shape).all()
            assert not (_inside(shape, one[None]) & _inside(shape, two[None])).any()
    assert found > 1400


def test_a_pair_that_cannot_be_apart_is_left_out() -> None:
    sides = np.array([[5, 5], [1, 1], [5, 5]])
    pairs = draw_swaps(np.random.RandomState(0), (8, 8), sides, tries=50)
    assert pairs[:, 0, 1].tolist() == [[1, 1]]


def test_places_are_uniform() -> None:
    rng = np.random.RandomState(0)
    pairs = np.concatenate([draw_swaps(rng, (3, 1), np.ones((50, 2), np.int64), tries=30) for _ in range(60)])
    places = 3 * pairs[:, 0, 0, 0] + pairs[:, 1, 0, 0]
    counts = np.bincount(places, minlength=9)
    assert (counts[[0, 4, 8]] == 0).all()
    assert (abs(counts[[1, 2, 3, 5, 6, 7]] / len(pairs) - 1 / 6) < 0.03).all()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float16, torch.float64])
def test_codes_stay_codes_and_the_input_stays(dtype: torch.dtype) -> None:
    image = torch.full((1, 12, 12), 7).to(dtype)
    before = image.clone()
    pair = np.array([[[[0, 0], [2, 2]], [[4, 4], [2, 2]]]])
    assert cut_out(image, BOXES_2D).dtype == swap_boxes(image, pair).dtype == dtype
    assert torch.equal(image, before)
    assert isinstance(cut_out(image.numpy(), BOXES_2D), np.ndarray)
