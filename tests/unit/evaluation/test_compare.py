"""Paired comparison of two results."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from monai_anat.evaluation import PatientBootstrap, Result, compare_evaluations, compare_results
from monai_anat.evaluation.metric import Metric

NAMES = [f"p{number}" for number in range(12)]


def result(values, better="higher", **changes) -> Result:
    bootstrap = PatientBootstrap(NAMES)
    shared = {"protocol": "p", "settings": {"k": (1, 2), "encoder": {"image_size": len(str(values))}}}
    metrics = {"score/a b": bootstrap.mean(values, better=better), "none": bootstrap.mean([np.nan] * 12, better=better)}
    return Result(**{**shared, "patients": bootstrap.fingerprint, "metrics": metrics, **changes})


def test_pairing_removes_what_both_share() -> None:
    hard = np.random.default_rng(0).normal(size=12)
    difference = compare_results(result(hard + 0.1), result(hard))["score/a b"]
    assert difference.difference == pytest.approx(0.1)
    assert difference.low == pytest.approx(0.1, abs=1e-4)
    assert difference.ahead == "first"
    lower = compare_results(result(hard + 0.1, "lower"), result(hard, "lower"))["score/a b"]
    assert lower.ahead == "second"


def test_what_has_no_interval_has_no_winner_and_few_patients_widen_the_difference() -> None:
    values = np.arange(12) / 12
    one, other = result(values + 0.1), result(values)
    for found in (one, other):
        found.metrics["score/a b"] = found.metrics["score/a b"].without_interval("")
    difference = compare_results(one, other)["score/a b"]
    assert (difference.low, difference.high, difference.ahead) == (None, None, None)
    noisy = np.random.default_rng(1).normal(size=12)
    wide, narrow = result(noisy), result(noisy)
    wide.metrics["score/a b"] = replace(wide.metrics["score/a b"], rests_on=3)
    pair = [compare_results(found, result(values))["score/a b"] for found in (wide, narrow)]
    assert pair[0].high - pair[0].low > 1.2 * (pair[1].high - pair[1].low)


def test_nobody_is_ahead_within_the_interval() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(2, 12))
    found = compare_results(*(result(row) for row in values))
    assert found["score/a b"].low < 0 < found["score/a b"].high
    assert found["score/a b"].ahead is None
    assert list(found) == ["score/a b"], "what is undefined has no difference"
    assert compare_results(*(result(row + [0, 9][i], None) for i, row in enumerate(values)))["score/a b"].ahead is None


def test_differences_cover_95_percent() -> None:
    generator = np.random.default_rng(2)
    hits = 0
    for trial in range(300):
        hard, noise = generator.normal(size=12), generator.normal(0, 0.2, size=(2, 12))
        bootstrap = PatientBootstrap(NAMES, resamples=300, seed=trial)
        metrics = [{"m": bootstrap.mean(hard + row, better="higher")} for row in noise]
        found = compare_results(*(Result("p", metrics=metric) for metric in metrics))["m"]
        hits += found.low <= 0 <= found.high
    assert 0.91 <= hits / 300 <= 0.985


def test_what_does_not_belong_together_is_refused() -> None:
    plain = result(np.zeros(12))
    for key, value in (("protocol", "q"), ("patients", "x"), ("images", "x"), ("settings", {"k": [3]})):
        with pytest.raises(ValueError, match=f"both results must have the same {key}"):
            compare_results(plain, result(np.zeros(12), **{key: value}))
    with pytest.raises(ValueError, match="must share a protocol with intervals"):
        compare_evaluations({"p": plain}, {"q": plain})
    assert list(compare_evaluations({"p": plain, "r": plain}, {"p": plain, "r": Result("r", skipped="no masks")})) == [
        "p"
    ]


def test_intervals_without_replicates_cannot_be_compared() -> None:
    bare = result(np.arange(12.0))
    bare.metrics["score/a b"] = replace(bare.metrics["score/a b"], replicates=())
    with pytest.raises(ValueError, match="'score/a b' must have replicates to be compared, got none"):
        compare_results(bare, bare)
    assert compare_results(*[Result("p", metrics={"m": Metric(1.0)})] * 2)["m"].low is None
