"""Results of protocols, in memory and on disk."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from monai_anat.evaluation.metric import Difference, Metric, Metrics
from monai_anat.evaluation.pseudonyms import Pseudonyms
from monai_anat.files import replace_file, write_text_atomically

__all__ = ["Case", "Result", "load_results", "save_results"]

RESULTS_NAME = "evaluation.json"
REPLICATES_NAME = "replicates.npz"
_HERE = "./"  # start of paths inside the output folder

#: ``score``, and what the protocol needs to draw the case: files, points, masks
Case = dict[str, Any]


@dataclass
class Result:
    """What a protocol measured on one encoder.

    Attributes:
        protocol: name of the protocol.
        settings: its arguments; ``settings["encoder"]`` holds image size, level and normalization of the encoder.
        n_images: number of images.
        n_patients: number of patients.
        patients: fingerprint of patients and resamples.
        images: fingerprint of the images.
        metrics: name -> metric. Names start with the kind: "error", "error/right apex", "pck/0.1".
        baselines: baseline ("random initialization", "same position", ...) -> metrics.
        comparisons: baseline -> metric -> encoder minus baseline.
        cases: "best", "median" and "worst" -> the case, to draw it.
        notes: sentences on what was left out and why.
        collapsed: whether all features are equal; then metrics are undefined. None if the protocol does not test it.
        skipped: reason why the protocol did not run; then everything else is empty.
        extra: further entries of a single protocol, such as ``predictions``, ``picture`` or ``curves``.

    >>> result = Result("collapse", metrics={"effective_rank": Metric(2.0)}, extra={"chance": 0.5})
    >>> Result.from_json(result.to_json()) == result
    True
    """

    protocol: str
    settings: dict[str, Any] = field(default_factory=dict)
    n_images: int = 0
    n_patients: int = 0
    patients: str = ""
    images: str = ""
    metrics: Metrics = field(default_factory=dict)
    baselines: dict[str, Metrics] = field(default_factory=dict)
    comparisons: dict[str, dict[str, Difference]] = field(default_factory=dict)
    cases: dict[str, Case] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    collapsed: bool | None = None
    skipped: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def to_json(self, *, replicates: bool = True) -> dict[str, Any]:
        """Convert to JSON values. Entries of ``extra`` stand beside the others.

        Args:
            replicates: include the values of the resamples.
        """
        if self.skipped:
            return {"protocol": self.protocol, "skipped": self.skipped}

        def metrics(values: Metrics) -> dict[str, Any]:
            return {name: metric.to_json(replicates=replicates) for name, metric in values.items()}

        content: dict[str, Any] = {
            "protocol": self.protocol,
            "settings": self.settings,
            "n_images": self.n_images,
            "n_patients": self.n_patients,
            "patients": self.patients,
            "images": self.images,
            "metrics": metrics(self.metrics),
            "baselines": {name: metrics(values) for name, values in self.baselines.items()},
            "comparisons": {
                name: {metric: difference.to_json() for metric, difference in values.items()}
                for name, values in self.comparisons.items()
            },
            "cases": self.cases,
            "notes": self.notes,
            **({} if self.collapsed is None else {"collapsed": self.collapsed}),
            **self.extra,
        }
        plain: dict[str, Any] = json.loads(json.dumps(content))
        return plain

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Result:
        """Read what :meth:`to_json` returned. Missing entries take their defaults; unknown ones go to ``extra``."""

        def metrics(values: Mapping[str, Any]) -> Metrics:
            return {name: Metric.from_json(metric) for name, metric in values.items()}

        known = {entry.name for entry in dataclasses.fields(cls)} - {"extra"}
        values = {key: value for key, value in content.items() if key in known}
        values["metrics"] = metrics(content.get("metrics", {}))
        values["baselines"] = {name: metrics(part) for name, part in content.get("baselines", {}).items()}
        values["comparisons"] = {
            name: {metric: Difference.from_json(one) for metric, one in part.items()}
            for name, part in content.get("comparisons", {}).items()
        }
        return cls(**values, extra={key: value for key, value in content.items() if key not in known})


def save_results(
    results: Mapping[str, Result],
    folder: str | os.PathLike[str],
    *,
    pseudonyms: Pseudonyms | None = None,
) -> Path:
    """Write ``evaluation.json`` and, beside it, the replicates of its metrics in ``replicates.npz``.

    Args:
        results: protocol -> result.
        folder: output folder; created if it does not exist.
        pseudonyms: what replaces file names and patients in the JSON; None writes them as they are.

    Returns:
        The JSON file.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    content = {name: result.to_json() for name, result in results.items()}
    if pseudonyms is not None:
        content = pseudonyms.hide(content)
    content = _moved(content, f"{target}{os.sep}", _HERE)  # files in the folder, which may be moved or shared
    arrays: dict[str, Any] = {
        path: np.array(metric.pop("replicates"), dtype=np.float64) for path, metric in _metrics(content)
    }
    # the replicates first: they may hold more than the JSON needs, so a run killed between the two leaves a valid pair
    with replace_file(target / REPLICATES_NAME) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    path = target / RESULTS_NAME
    write_text_atomically(path, json.dumps(content, indent=1) + "\n")
    return path


def load_results(folder: str | os.PathLike[str]) -> dict[str, Result]:
    """Read what :func:`save_results` wrote, including replicates.

    File names are restored if the look-up file of the evaluation is still beside its folder.

    Args:
        folder: the output folder of ``evaluate_encoder``.

    Raises:
        FileNotFoundError: if the folder holds no evaluation.
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
    content = Pseudonyms.reveal(_moved(content, _HERE, f"{Path(folder)}{os.sep}"), folder)
    return {name: Result.from_json(result) for name, result in content.items()}


def _metrics(content: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Find every metric with replicates in nested dictionaries, with the keys that lead to it."""
    if not isinstance(content, dict):
        return
    if "replicates" in content:
        yield "\t".join(path), content
    else:
        for key, value in content.items():
            yield from _metrics(value, (*path, key))


def _moved(content: Any, start: str, other: str) -> Any:
    """Replace the start of every string in nested JSON values that begins with it."""
    if isinstance(content, dict):
        return {key: _moved(value, start, other) for key, value in content.items()}
    if isinstance(content, list):
        return [_moved(value, start, other) for value in content]
    return other + content.removeprefix(start) if isinstance(content, str) and content.startswith(start) else content
