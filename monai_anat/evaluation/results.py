"""The form of every protocol's result, on disk, and the paired comparison of two of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from monai_anat.evaluation.bootstrap import interval

__all__ = ["compare_evaluations", "compare_metrics", "compare_results", "load_results", "save_results"]

RESULTS_NAME = "evaluation.json"
REPLICATES_NAME = "replicates.npz"


def compare_results(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """First minus second, metric by metric, with intervals over the patients that both were measured on.

    The replicates of both rest on the same resamples of the same patients, so their differences are those of a paired
    bootstrap. Intervals are not corrected for the number of metrics.

    Args:
        first: what a protocol returned for one encoder.
        second: what the same protocol, with the same settings, returned for another one on the same images.

    Returns:
        metric -> ``difference``, ``low``, ``high``, ``n_patients``, and ``ahead``: "first" or "second" where the
        interval excludes 0 and the metric says which direction is better, else None. There is no interval where
        either result has none; metrics without a value in either are left out.

    Raises:
        ValueError: if the results come from different protocols, settings, patients or images.

    >>> from monai_anat.evaluation.bootstrap import PatientBootstrap
    >>> patients = PatientBootstrap(["a", "b", "c"])
    >>> shared = {"protocol": "p", "settings": {}, "patients": patients.fingerprint}
    >>> good, bad = ({**shared, "metrics": {"Dice": patients.mean(v, better="higher")}} for v in ([3, 2, 4], [1, 0, 2]))
    >>> difference = compare_results(good, bad)["Dice"]
    >>> difference["difference"], difference["ahead"]
    (2.0, 'first')
    """
    for key in ("protocol", "settings", "patients", "images"):
        one, other = (_without_encoder(result.get(key)) for result in (first, second))
        if one != other:
            raise ValueError(
                f"both results must have the same {key}, got {one} and {other}; run the same protocol with the same "
                "settings on the same images for both encoders"
            )
    return compare_metrics(first["metrics"], second["metrics"])


def compare_evaluations(
    first: Mapping[str, Mapping[str, Any]], second: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """:func:`compare_results` for every protocol that both encoders went through.

    Args:
        first: what ``evaluate_encoder`` or :func:`load_results` returned for one encoder.
        second: the same for another one, on the same data.

    Returns:
        protocol -> metric -> difference. Protocols without intervals over patients are left out.

    Raises:
        ValueError: if they have no protocol in common, or a protocol ran with other settings or on other patients.
    """
    both = [name for name, one in first.items() if all("metrics" in result for result in (one, second.get(name, {})))]
    if not both:
        raise ValueError(
            f"both evaluations must share a protocol with intervals, got {list(first)} and {list(second)}; "
            "evaluate both encoders by the same protocols"
        )
    return {name: compare_results(first[name], second[name]) for name in both}


def compare_metrics(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """:func:`compare_results` on the metrics alone, as between an encoder and its baselines."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in first.items():
        other = second.get(name)
        if other is None or None in (one["value"], other["value"]):
            continue
        low = high = None
        if None not in (one["low"], other["low"]):  # what has no interval has no interval of the difference
            pairs = [np.array(metric["replicates"], dtype=np.float64) for metric in (one, other)]
            low, high = interval(pairs[0] - pairs[1], min(one["rests_on"], other["rests_on"]), one["confidence"])
        found[name] = {
            "difference": one["value"] - other["value"],
            "low": low,
            "high": high,
            "n_patients": min(one["n_patients"], other["n_patients"]),
            "ahead": _ahead(low, high, one["better"]),
        }
    return found


def save_results(results: Mapping[str, Any], folder: str | os.PathLike[str]) -> Path:
    """Write ``evaluation.json``, which a person can read, and beside it the replicates of its metrics.

    Args:
        results: protocol -> its result.
        folder: where to write; made when absent.

    Returns:
        The JSON file.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    content = json.loads(json.dumps(results))
    arrays: dict[str, Any] = {
        path: np.array(metric.pop("replicates"), dtype=np.float64) for path, metric in _metrics(content)
    }
    # first, and more than it needs to hold: a run that is stopped between the two files leaves a pair that fits
    replicates = target / REPLICATES_NAME
    with replicates.with_suffix(".tmp").open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    replicates.with_suffix(".tmp").replace(replicates)
    path = target / RESULTS_NAME
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def load_results(folder: str | os.PathLike[str]) -> dict[str, Any]:
    """What :func:`save_results` wrote, replicates included.

    Raises:
        FileNotFoundError: if there is no evaluation in the folder.
    """
    path = Path(folder) / RESULTS_NAME
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; evaluate an encoder into this folder first")
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    with np.load(path.with_name(REPLICATES_NAME), allow_pickle=False) as file:
        for name in file.files:
            place: Any = content
            for key in name.split("\t"):
                place = place.get(key, {})
            place["replicates"] = [None if np.isnan(value) else float(value) for value in file[name]]
    return content


def _metrics(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every metric with replicates inside nested dicts, with the keys that lead to it."""
    if not isinstance(content, dict):
        return
    if "replicates" in content:
        yield "\t".join(path), content
    else:
        for key, value in content.items():
            yield from _metrics(value, (*path, key))


def _without_encoder(value: Any) -> Any:
    """Settings without the encoder's own size and normalization, which may differ, in the form that JSON gives them."""
    kept = {key: part for key, part in value.items() if key != "encoder"} if isinstance(value, dict) else value
    return json.loads(json.dumps(kept))


def _ahead(low: float | None, high: float | None, better: str | None) -> str | None:
    if low is None or high is None or better is None or low <= 0 <= high:
        return None
    return "first" if (low > 0) == (better == "higher") else "second"
