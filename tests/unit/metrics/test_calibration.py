"""Calibration: a classifier that means what it says has no error, one that exaggerates has."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.metrics.calibration import reliability


def test_honest_probabilities_have_a_small_error_and_exaggerated_ones_a_large_one():
    generator = np.random.default_rng(0)
    probability = generator.uniform(size=20000)
    labels = generator.uniform(size=20000) < probability
    honest = reliability(labels, probability)
    assert honest.error < 0.02
    np.testing.assert_allclose(honest.predicted, honest.observed, atol=0.04)
    exaggerated = reliability(labels, np.where(probability > 0.5, 0.99, 0.01))
    assert exaggerated.error == pytest.approx(0.24, abs=0.02)
    np.testing.assert_allclose(exaggerated.predicted, [0.01, 0.99])


def test_bins_hold_equally_many_images_and_all_of_them():
    probability = np.linspace(0, 1, 103) ** 4
    curve = reliability(np.zeros(103), probability, bins=10)
    assert len(curve.counts) == 10
    assert curve.counts.sum() == 103
    assert set(curve.counts) <= {10, 11}
    assert (np.diff(curve.predicted) > 0).all()


def test_the_error_is_the_weighted_mean_of_the_gaps():
    labels = np.array([0, 0, 1, 1, 0, np.nan])
    probability = np.array([0.2, 0.2, 0.2, 0.9, 0.9, 0.5])
    curve = reliability(labels, probability, bins=2)
    np.testing.assert_allclose(curve.predicted, [0.2, 0.9])
    np.testing.assert_allclose(curve.observed, [1 / 3, 1 / 2])
    assert curve.counts.tolist() == [3, 2]
    assert curve.error == pytest.approx((3 * (1 / 3 - 0.2) + 2 * 0.4) / 5)


def test_equal_probabilities_are_one_bin():
    curve = reliability([0, 1, 0, 1], [0.5] * 4, bins=10)
    assert curve.counts.tolist() == [4]
    assert curve.error == 0


@pytest.mark.parametrize(
    ("labels", "probability", "bins"), [([np.nan], [0.5], 10), ([0], [1.5], 10), ([0.5], [0.5], 10), ([0], [0.5], 0)]
)
def test_what_makes_no_sense_is_named(labels, probability, bins):
    with pytest.raises(ValueError, match="labels must be 0, 1 or NaN and not all NaN, probabilities in"):
        reliability(labels, probability, bins)
