"""Bootstrap intervals: coverage, patients and draws."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.evaluation import PatientBootstrap
from monai_anat.evaluation.bootstrap import interval, nan_mean
from monai_anat.evaluation.metric import Metric


def covers(metric, truth: float) -> bool:
    return metric.low <= truth <= metric.high


@pytest.mark.parametrize("patients", [8, 30])
def test_95_percent_intervals_of_means_cover_95_percent(patients) -> None:
    generator = np.random.default_rng(10)
    hits = 0
    for trial in range(600):
        names = [f"p{number // 2}" for number in range(2 * patients)]  # two images of each patient, which are alike
        values = np.repeat(generator.normal(size=patients), 2) + generator.normal(0, 0.3, size=2 * patients)
        hits += covers(PatientBootstrap(names, resamples=400, seed=trial).mean(values, better=None), 0.0)
    assert 0.925 <= hits / 600 <= 0.975


def test_95_percent_intervals_of_means_over_pairs_cover_95_percent() -> None:
    generator = np.random.default_rng(0)
    first, second = np.nonzero(~np.eye(15, dtype=bool))
    hits = 0
    for trial in range(300):
        hard = generator.normal(size=15)
        values = hard[first] + hard[second] + generator.normal(0, 0.5, size=len(first))
        bootstrap = PatientBootstrap([f"p{number}" for number in range(15)], resamples=400, seed=trial)
        hits += covers(bootstrap.pair_mean(values, first, second, better=None), 0.0)
    assert 0.92 <= hits / 300 <= 0.985


def test_the_interval_is_the_expanded_percentile_one() -> None:
    replicates = np.random.default_rng(0).normal(size=200000)
    low, high = interval(replicates, 10, 0.95)
    # Student's t with 9 degrees of freedom, times the root of n / (n - 1)
    assert high == pytest.approx(2.262 * np.sqrt(10 / 9), abs=0.03)
    assert low == pytest.approx(-high, abs=0.05)
    assert interval(replicates, 1, 0.95) == (None, None)


def test_images_of_a_patient_count_once_and_undefined_ones_not_at_all() -> None:
    bootstrap = PatientBootstrap(["a", "a", "a", "b", "c"])
    metric = bootstrap.mean([1.0, 1.0, 1.0, 0.0, np.nan], better="higher", unit="share")
    assert (metric.value, metric.n_patients, metric.unit) == (0.5, 2, "share")
    assert len(metric.replicates) == 1000
    assert bootstrap.mean([1.0, 0.0], rows=[0, 3], better=None).value == 0.5


def test_pairs_are_averaged_by_patients() -> None:
    bootstrap = PatientBootstrap(["a", "a", "b", "c"])
    first, second = [0, 1, 0, 2], [2, 2, 3, 3]
    assert bootstrap.pair_mean([0.0, 1.0, 2.0, np.nan], first, second, better=None).value == pytest.approx(1.25)
    assert bootstrap.pair_median([0.0, 1.0, 2.0, 9.0], first, second, better=None).value == pytest.approx(2.0)
    assert bootstrap.pair_median([0.0, 1.0, 2.0, np.nan], first, second, better=None).value == pytest.approx(1.25)


def test_medians_agree_with_numpy_in_every_resample() -> None:
    names = [f"p{number}" for number in range(6)]
    bootstrap = PatientBootstrap(names, resamples=50)
    first, second = np.nonzero(~np.eye(6, dtype=bool))
    values = np.random.default_rng(3).normal(size=len(first))
    replicates = bootstrap.pair_median(values, first, second, better=None).replicates
    for weights, replicate in zip(bootstrap._weights, replicates, strict=True):
        repeated = np.repeat(values, weights[first] * weights[second])
        assert replicate == pytest.approx(np.median(repeated), rel=1e-5)


def test_draws_widen_the_interval() -> None:
    bootstrap = PatientBootstrap([f"p{number}" for number in range(20)])
    flat = np.zeros((4, 20))
    apart = flat + np.array([[0.0], [1.0], [2.0], [3.0]])
    assert bootstrap.draw_mean(flat, better=None).high == 0
    metric = bootstrap.draw_mean(apart, better=None)
    assert metric.value == 1.5
    assert metric.low < 1 < 2 < metric.high


def test_equal_patients_give_equal_resamples() -> None:
    one, two, other = (PatientBootstrap(names) for names in (["a", "b"], ["b", "a", "a"], ["a", "c"]))
    assert one.fingerprint == two.fingerprint != other.fingerprint
    assert PatientBootstrap(["a", "b"], seed=1).fingerprint != one.fingerprint


def test_what_is_undefined_says_why() -> None:
    metric = PatientBootstrap(["a", "b"]).mean([np.nan, np.nan], better="higher", why="all masks are empty")
    assert metric == Metric.undefined("all masks are empty", better="higher")
    one = PatientBootstrap(["a", "a"]).mean([0.0, 1.0], better="higher")
    assert (one.value, one.low) == (0.5, None)
    assert one.why == "an interval needs at least 2 patients with a defined value, got 1"


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"patients must not be empty, .* got 0 patients"):
        PatientBootstrap([])
    with pytest.raises(ValueError, match=r"confidence=95"):
        PatientBootstrap(["a"], confidence=95)


def test_paired_difference_of_draws_by_hand() -> None:
    bootstrap = PatientBootstrap(["a", "b"])
    difference = np.array([[0.9, 0.7], [0.6, 0.6]]) - np.array([[0.8, 0.6], [0.7, 0.5]])
    assert bootstrap.draw_mean(difference).value == pytest.approx(0.05)


def test_pairing_removes_what_both_encoders_share() -> None:
    hard = np.random.default_rng(0).normal(0, 0.3, size=(10, 20))
    metric = PatientBootstrap([f"p{number}" for number in range(20)]).draw_mean((hard + 0.05) - hard)
    assert (metric.low, metric.high) == (pytest.approx(0.05), pytest.approx(0.05))


def test_intervals_over_draws_and_patients_cover_the_truth() -> None:
    generator = np.random.default_rng(1)
    hits = 0
    for trial in range(60):
        draws, patients = generator.normal(0, 0.1, (12, 1)), generator.normal(0, 0.1, (1, 20))
        scores = draws + patients + generator.normal(0, 0.1, (12, 20))
        bootstrap = PatientBootstrap([f"p{number}" for number in range(20)], resamples=400, seed=trial)
        hits += covers(bootstrap.draw_mean(scores), 0.0)
    assert hits >= 54


def test_images_of_a_patient_count_once_in_every_draw() -> None:
    assert PatientBootstrap(["a", "a", "a", "b"]).draw_mean([[1.0, 1.0, 1.0, 0.0]]).value == pytest.approx(0.5)
    assert PatientBootstrap(["a", "b"]).draw_mean([[0.25, np.nan]]).value == pytest.approx(0.25)


def test_scores_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"values must be \(draws, 2\), .* got \(1, 3\)"):
        PatientBootstrap(["a", "b"]).draw_mean(np.zeros((1, 3)))


def test_nan_mean_ignores_undefined_values() -> None:
    np.testing.assert_array_equal(nan_mean([[1.0, np.nan], [np.nan, np.nan]], axis=1), [1.0, np.nan])
