"""The interval covers what it should and follows the pairing."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.evaluation.paired import paired_difference


def test_mean_and_draws_by_hand() -> None:
    result = paired_difference([[0.9, 0.7], [0.6, 0.6]], [[0.8, 0.6], [0.7, 0.5]])
    assert result["mean"] == pytest.approx(0.05)
    assert result["per_draw"] == pytest.approx([0.1, 0.0])
    assert result["draws_better"] == 0.5


def test_pairing_removes_what_all_arms_share() -> None:
    generator = np.random.default_rng(0)
    hard = generator.normal(0, 0.3, size=(10, 20))
    low, high = paired_difference(hard + 0.05, hard)["interval"]
    assert low == pytest.approx(0.05)
    assert high == pytest.approx(0.05)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(60):
        draws, patients = generator.normal(0, 0.1, (12, 1)), generator.normal(0, 0.1, (1, 20))
        noise = generator.normal(0, 0.1, (12, 20))
        low, high = paired_difference(draws + patients + noise, np.zeros((12, 20)), resamples=400, seed=trial)[
            "interval"
        ]
        hits += low <= 0 <= high
    assert hits >= 50


def test_interval_covers_draws_and_patients() -> None:
    patients, draws = np.tile([0.0, 0.1, 0.2, 0.3], (5, 1)), np.tile([[0.0], [0.1], [0.2], [0.3]], (1, 5))
    for scores in (patients, draws):
        low, high = paired_difference(scores, np.zeros_like(scores))["interval"]
        assert low < 0.1
        assert high > 0.2


def test_images_of_a_patient_count_once() -> None:
    first = [[1.0, 1.0, 1.0, 0.0]]
    assert paired_difference(first, np.zeros((1, 4)), ["a", "a", "a", "b"])["mean"] == pytest.approx(0.5)


def test_undefined_scores_are_left_out() -> None:
    assert paired_difference([[0.5, np.nan]], [[0.25, 0.9]])["mean"] == pytest.approx(0.25)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"got \(1, 2\) and \(2, 2\)"):
        paired_difference(np.zeros((1, 2)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="got 1 for 2 images"):
        paired_difference(np.zeros((1, 2)), np.zeros((1, 2)), ["a"])
