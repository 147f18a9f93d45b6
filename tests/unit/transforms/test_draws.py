"""Draws that the random transforms share."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.transforms.draws import (
    check_prob,
    draw_boxes,
    draw_integers,
    draw_run_length,
    draw_seed,
    random_generator,
)


def test_integers_include_both_ends_and_are_uniform() -> None:
    drawn = draw_integers(np.random.RandomState(0), [0, 3], [4, 3], size=(5000, 2))
    assert set(drawn[:, 0].tolist()) == {0, 1, 2, 3, 4} and set(drawn[:, 1].tolist()) == {3}
    assert np.abs(np.bincount(drawn[:, 0]) - 1000).max() < 120


def test_boxes_lie_inside_and_keep_the_margin_where_it_fits() -> None:
    rng = np.random.RandomState(0)
    for shape in [(20, 30), (7, 6), (1, 1), (12, 4, 9)]:
        sizes = draw_integers(rng, np.ones(len(shape), np.int64), np.asarray(shape), size=(200, len(shape)))
        boxes = draw_boxes(rng, shape, sizes, margin=3)
        start, side = boxes[:, 0], boxes[:, 1]
        assert np.array_equal(side, sizes)
        assert (start >= 0).all() and (start + side <= np.asarray(shape)).all()
        room = np.asarray(shape) - side
        wide = room >= 6
        assert (start[wide] >= 3).all() and (room - start)[wide].min(initial=3) >= 3


def test_boxes_reach_every_valid_place() -> None:
    starts = draw_boxes(np.random.RandomState(0), (12,), np.full((2000, 1), 2), margin=3)[:, 0, 0]
    assert set(starts.tolist()) == set(range(3, 8))


def test_run_lengths_follow_the_chain_of_probabilities() -> None:
    rng = np.random.RandomState(0)
    runs = np.array([draw_run_length(rng, 5, 0.95) for _ in range(10000)])
    expected = [0.05, 0.95 * 0.05, 0.95**2 * 0.05, 0.95**3 * 0.05, 0.95**4 * 0.05, 0.95**5]
    np.testing.assert_allclose(np.bincount(runs, minlength=6) / 10000, expected, atol=0.02)
    assert draw_run_length(rng, 0, 0.95) == 0 and draw_run_length(rng, 3, 0.0) == 0


def test_seeds_and_generators_repeat() -> None:
    first, second = (draw_seed(np.random.RandomState(5)) for _ in range(2))
    assert first == second < 2**31
    numbers = [torch.rand(4, generator=random_generator(first, torch.zeros(1))) for _ in range(2)]
    assert torch.equal(*numbers)


def test_a_probability_is_checked_by_its_name() -> None:
    check_prob(prob=0.0, flip_prob=1.0)
    for wrong in (-0.1, 1.5, float("nan")):
        with pytest.raises(ValueError, match=r"flip_prob must be a probability in \[0, 1\], got"):
            check_prob(prob=0.5, flip_prob=wrong)
