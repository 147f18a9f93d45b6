"""Several encoders on one page: the same questions, and which answers differ by more than chance."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_anat.evaluation.protocols import EncoderLike, plan_evaluation
from monai_anat.evaluation.reports.pictures import case_pictures
from monai_anat.evaluation.reports.report import Report, ReportFigure, ReportTable
from monai_anat.evaluation.reports.sections import (
    MARK,
    baselines_of,
    format_metric,
    metric_figures,
    metric_groups,
    metric_title,
    table_caption,
)
from monai_anat.evaluation.results import compare_results

__all__ = ["compare_encoders", "compare_report", "write_comparison"]

Evaluations = Mapping[str, Mapping[str, Mapping[str, Any]]]
#: (first, second) -> metric -> what compare_results says
Differences = Mapping[tuple[str, str], Mapping[str, Mapping[str, Any]]]


def compare_encoders(
    encoders: Sequence[str | os.PathLike[str]] | Mapping[str, EncoderLike],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    protocols: str | Sequence[str] = "all",
    **options: Any,
) -> Path:
    """Measure several encoders by the same protocols and compare them on one page.

    Args:
        encoders: folders that ``save_encoder`` wrote, each called by the part of its path that the others lack; or
            name -> folder, backbone or :class:`FrozenEncoder`.
        data: as of ``evaluate_encoder``.
        out: gets a folder with the evaluation of each encoder, and ``comparison.html``.
        protocols: as of ``evaluate_encoder``.
        options: for ``evaluate_encoder``.

    Returns:
        The page.

    Raises:
        ValueError: for the same encoder twice, or no protocol that two of them went through.
    """
    folder = Path(out)
    if not isinstance(encoders, Mapping):
        encoders = dict(zip(_names([Path(path) for path in encoders]), encoders, strict=True))
    plans = {
        name: plan_evaluation(encoder, data, folder / name, protocols, **options) for name, encoder in encoders.items()
    }
    return write_comparison({name: plan.run() for name, plan in plans.items()}, folder / "comparison.html")


def _names(paths: Sequence[Path]) -> list[str]:
    """What tells paths apart: ["runs/a/encoder", "runs/b/encoder"] -> ["a", "b"]."""
    parts = [path.absolute().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ValueError(f"encoders must be different folders, got {[str(path) for path in paths]}")
    if len(parts) == 1:
        return [paths[0].name]
    for where in (-1, 0):  # one part stays, of a folder inside another one too
        while min(map(len, parts)) > 1 and len({part[where] for part in parts}) == 1:
            parts = [part[:where] if where else part[1:] for part in parts]
    return ["-".join(part) for part in parts]


def write_comparison(evaluations: Evaluations, path: str | os.PathLike[str], title: str = "Encoders compared") -> Path:
    """Write the page of :func:`compare_report` and return its path."""
    return compare_report(evaluations, title).write(path)


def compare_report(evaluations: Evaluations, title: str = "Encoders compared") -> Report:
    """Put encoders side by side, protocol by protocol.

    A value is marked where the paired bootstrap puts the encoder ahead of *every* other one: the same resamples of the
    same patients, an interval of the difference that excludes 0. Intervals are not corrected for the number of metrics.

    Args:
        evaluations: encoder -> protocol -> result, as ``evaluate_encoder`` and ``load_results`` give them.
        title: of the page.

    Returns:
        A report with one section per protocol that at least two encoders went through: a table of all metrics, panels
        of the main ones, and each encoder's best, median and worst case. A baseline that differs between encoders, as
        random weights of two architectures do, stands there once for each.

    Raises:
        ValueError: if there are fewer than two encoders, no protocol in common, or a protocol ran with other settings
            or on other patients.
    """
    names = list(evaluations)
    protocols = list(dict.fromkeys(protocol for results in evaluations.values() for protocol in results))
    shared = {
        protocol: {
            name: evaluations[name][protocol] for name in names if "metrics" in evaluations[name].get(protocol, {})
        }
        for protocol in protocols
    }
    shared = {protocol: results for protocol, results in shared.items() if len(results) > 1}
    if not shared:
        raise ValueError(
            f"evaluations must hold two encoders with a protocol in common, got {names} with "
            f"{[sorted(results) for results in evaluations.values()]}; evaluate them by the same protocols"
        )
    report = Report(
        title,
        f"{len(names)} encoders: {', '.join(names)}. {MARK.strip()} marks a value that is better than that of "
        "every other encoder by the paired test over patients; without it, chance has not been ruled out.",
    )
    for protocol, results in shared.items():
        differences = {
            (first, second): compare_results(results[first], results[second])
            for first, second in itertools.combinations(results, 2)
        }
        report.add_section(
            protocol.capitalize(),
            *metric_figures(results),
            *_tables(results, _ahead(list(results), differences)),
            *(_differences(differences) if len(results) == 2 else ()),
            *_cases(results),
            *dict.fromkeys(note for result in results.values() for note in result.get("notes", ())),
        )
    return report


def _ahead(names: Sequence[str], differences: Differences) -> dict[str, str]:
    """metric -> the encoder that is ahead of every other one."""
    wins: Counter[tuple[str, str]] = Counter()
    for (first, second), metrics in differences.items():
        winner = {"first": first, "second": second}
        wins.update((metric, winner[entry["ahead"]]) for metric, entry in metrics.items() if entry["ahead"])
    return {metric: name for (metric, name), count in wins.items() if count == len(names) - 1}


def _tables(results: Mapping[str, Any], ahead: Mapping[str, str]) -> list[ReportTable]:
    first, baselines = next(iter(results.values())), baselines_of(results)
    columns, tables = ["metric", *results, *baselines, "unit"], []
    for title, names in metric_groups(first).items():
        rows = []
        for metric in names:
            cells = [format_metric(result["metrics"].get(metric)) for result in results.values()]
            marked = [cell + MARK * (ahead.get(metric) == name) for name, cell in zip(results, cells, strict=True)]
            beside = [format_metric(baseline.get(metric), interval=False) for baseline in baselines.values()]
            entry = first["metrics"][metric]
            rows.append([metric_title(metric.removesuffix(f"/{title}"), entry), *marked, *beside, entry["unit"]])
        tables.append(ReportTable(columns, rows, table_caption(first, title)))
    return tables


def _differences(differences: Differences) -> list[ReportTable]:
    """The paired difference of every metric, for each two encoders."""
    tables = []
    for (first, second), metrics in differences.items():
        winner = {"first": first, "second": second, None: ""}
        rows = [
            [metric.replace("_", " "), f"{entry['difference']:+.3f}", _signed(entry), winner[entry["ahead"]]]
            for metric, entry in metrics.items()
        ]
        columns = ["metric", f"{first} minus {second}", "interval", "ahead"]
        tables.append(ReportTable(columns, rows, "Paired differences over the same patients"))
    return tables


def _signed(entry: Mapping[str, Any]) -> str:
    return "–" if entry["low"] is None else f"{entry['low']:+.3f} to {entry['high']:+.3f}"


def _cases(results: Mapping[str, Any]) -> list[ReportFigure]:
    return [picture for name, result in results.items() for picture in case_pictures(result, name)]
