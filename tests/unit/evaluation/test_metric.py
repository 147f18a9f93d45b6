"""Metrics and differences."""

from __future__ import annotations

import json

import pytest

from monai_anat.evaluation import Difference, PatientBootstrap
from monai_anat.evaluation.metric import Metric


@pytest.mark.parametrize(
    "metric",
    [
        PatientBootstrap(["a", "b", "c"], resamples=5).mean([1.0, 2.0, 4.0], better="lower", unit="mm"),
        PatientBootstrap(["a", "b"], resamples=5).mean([1.0, float("nan")], better="lower"),
        Metric.undefined("no mask", better="higher", unit="Dice"),
    ],
)
def test_json_and_back(metric) -> None:
    assert Metric.from_json(json.loads(json.dumps(metric.to_json(), allow_nan=False))) == metric
    assert "replicates" not in metric.to_json(replicates=False)


def test_scaling_moves_value_interval_and_replicates() -> None:
    metric = Metric(2.0, 1.0, None, 0.95, 3, 3, "lower", "mm", "", (2.0, None)).scaled(0.5, better=None, unit="cm")
    assert (metric.value, metric.low, metric.high, metric.replicates) == (1.0, 0.5, None, (1.0, None))
    assert (metric.better, metric.unit, metric.n_patients) == (None, "cm", 3)


def test_an_interval_can_be_withdrawn_with_a_reason() -> None:
    metric = Metric(2.0, 1.0, 3.0).without_interval("a case series has no interval")
    assert (metric.value, metric.low, metric.high, metric.why) == (2.0, None, None, "a case series has no interval")


def test_differences_as_json() -> None:
    difference = Difference(0.1, 0.05, 0.15, 12, "first")
    assert Difference.from_json(json.loads(json.dumps(difference.to_json()))) == difference
