"""Paired comparison of two encoders."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from monai_anat.evaluation.bootstrap import interval
from monai_anat.evaluation.metric import Ahead, Better, Difference, Metric
from monai_anat.evaluation.results import Result

__all__ = ["compare_evaluations", "compare_metrics", "compare_results"]


def compare_results(first: Result, second: Result) -> dict[str, Difference]:
    """Subtract the metrics of two results, with intervals over their common patients.

    Both results hold the same resamples of the same patients, so this is a paired bootstrap. Intervals are not
    corrected for the number of metrics.

    Args:
        first: result of a protocol for one encoder.
        second: result of the same protocol, with the same settings and images, for another encoder.

    Returns:
        Metric name -> difference. It has no interval if either metric has none. Metrics that are undefined in either
        result are left out.

    Raises:
        ValueError: if protocol, settings, patients or images differ, or a metric with an interval has no replicates.

    >>> from monai_anat.evaluation.bootstrap import PatientBootstrap
    >>> bootstrap = PatientBootstrap(["a", "b", "c"])
    >>> good, bad = (
    ...     Result("p", patients=bootstrap.fingerprint, metrics={"Dice": bootstrap.mean(values, better="higher")})
    ...     for values in ([3, 2, 4], [1, 0, 2])
    ... )
    >>> found = compare_results(good, bad)["Dice"]
    >>> found.difference, found.ahead
    (2.0, 'first')
    """
    for key in ("protocol", "settings", "patients", "images"):
        one, other = (_without_encoder(getattr(result, key)) for result in (first, second))
        if one != other:
            raise ValueError(
                f"both results must have the same {key}, got {one} and {other}; run the same protocol with the same "
                "settings on the same images for both encoders"
            )
    return compare_metrics(first.metrics, second.metrics)


def compare_evaluations(first: Mapping[str, Result], second: Mapping[str, Result]) -> dict[str, dict[str, Difference]]:
    """Apply :func:`compare_results` to every protocol that both evaluations contain.

    Args:
        first: results of ``evaluate_encoder`` or ``load_results`` for one encoder.
        second: results for another encoder on the same data.

    Returns:
        Protocol -> metric -> difference.

    Raises:
        ValueError: if they share no protocol, or a protocol ran with other settings or on other patients.
    """
    both = [name for name, one in first.items() if name in second and one.metrics and second[name].metrics]
    if not both:
        raise ValueError(
            f"both evaluations must share a protocol with intervals, got {list(first)} and {list(second)}; "
            "evaluate both encoders by the same protocols"
        )
    return {name: compare_results(first[name], second[name]) for name in both}


def compare_metrics(first: Mapping[str, Metric], second: Mapping[str, Metric]) -> dict[str, Difference]:
    """Subtract metrics that were computed with the same resamples, such as those of an encoder and of a baseline.

    Raises:
        ValueError: if a metric with an interval has no replicates.
    """
    found: dict[str, Difference] = {}
    for name, one in first.items():
        other = second.get(name)
        if other is None or one.value is None or other.value is None:
            continue
        low = high = None
        if one.low is not None and other.low is not None and one.confidence is not None:
            if not (one.replicates and other.replicates):
                raise ValueError(f"metric {name!r} must have replicates to be compared, got none; evaluate again")
            pairs = [np.array(metric.replicates, dtype=np.float64) for metric in (one, other)]
            rests_on = min(metric.rests_on or 0 for metric in (one, other))
            low, high = interval(pairs[0] - pairs[1], rests_on, one.confidence)
        patients = min(one.n_patients, other.n_patients)
        found[name] = Difference(one.value - other.value, low, high, patients, _ahead(low, high, one.better))
    return found


def _without_encoder(value: Any) -> Any:
    """Convert to JSON values and drop the encoder's own settings, which may differ."""
    kept = {key: part for key, part in value.items() if key != "encoder"} if isinstance(value, dict) else value
    return json.loads(json.dumps(kept))


def _ahead(low: float | None, high: float | None, better: Better) -> Ahead:
    if low is None or high is None or better is None or low <= 0 <= high:
        return None
    return "first" if (low > 0) == (better == "higher") else "second"
