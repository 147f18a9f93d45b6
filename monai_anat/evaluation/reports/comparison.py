"""Comparison pages of several encoders."""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from monai_anat.evaluation.compare import compare_results
from monai_anat.evaluation.evaluate import EncoderLike, plan_evaluation
from monai_anat.evaluation.metric import Difference
from monai_anat.evaluation.pictures import ReportFigure
from monai_anat.evaluation.protocol import case_pictures
from monai_anat.evaluation.reports.metric_tables import (
    MARK,
    baselines_of,
    format_metric,
    metric_figures,
    metric_groups,
    metric_title,
    table_caption,
)
from monai_anat.evaluation.reports.report import Report, ReportTable
from monai_anat.evaluation.results import Result

__all__ = ["compare_encoders", "compare_report", "write_comparison"]

#: encoder -> protocol -> result
Evaluations = Mapping[str, Mapping[str, Result]]
#: (first, second) -> metric -> difference
Differences = Mapping[tuple[str, str], Mapping[str, Difference]]


def compare_encoders(
    encoders: Sequence[str | os.PathLike[str]] | Mapping[str, EncoderLike],
    data: str | os.PathLike[str],
    out: str | os.PathLike[str],
    protocols: str | Sequence[str] = "all",
    **options: Any,
) -> Path:
    """Measure several encoders by the same protocols and compare them on one page.

    Args:
        encoders: folders that ``save_encoder`` wrote, each named by the part of its path that the others lack; or name
            -> folder, backbone or :class:`FrozenEncoder`.
        data: as for ``evaluate_encoder``.
        out: output folder, with a folder for the evaluation of each encoder and ``comparison.html``.
        protocols: as for ``evaluate_encoder``.
        options: further arguments of ``evaluate_encoder``.

    Returns:
        The page.

    Raises:
        ValueError: if an encoder is given twice, or no protocol ran for two of them.
    """
    folder = Path(out)
    if not isinstance(encoders, Mapping):
        encoders = dict(zip(_names([Path(path) for path in encoders]), encoders, strict=True))
    plans = {
        name: plan_evaluation(encoder, data, folder / name, protocols, **options) for name, encoder in encoders.items()
    }
    results = {name: plan.run(lookup=folder) for name, plan in plans.items()}
    hide = next(iter(plans.values())).pseudonyms.hide_text
    return write_comparison(results, folder / "comparison.html", hide=hide)


def _names(paths: Sequence[Path]) -> list[str]:
    """Return the parts that distinguish paths: ["runs/a/encoder", "runs/b/encoder"] -> ["a", "b"]."""
    parts = [path.absolute().parts for path in paths]
    if len(set(parts)) < len(parts):
        raise ValueError(f"encoders must be different folders, got {[str(path) for path in paths]}")
    if len(parts) == 1:
        return [paths[0].name]
    for where in (-1, 0):  # at least one part stays
        while min(map(len, parts)) > 1 and len({part[where] for part in parts}) == 1:
            parts = [part[:where] if where else part[1:] for part in parts]
    return ["-".join(part) for part in parts]


def write_comparison(
    evaluations: Evaluations,
    path: str | os.PathLike[str],
    title: str = "Encoders compared",
    hide: Callable[[str], str] | None = None,
) -> Path:
    """Write the page of :func:`compare_report` and return its path.

    Args:
        evaluations: encoder -> protocol -> result.
        path: the HTML file.
        title: title of the page.
        hide: removes file names and patients from texts, as :meth:`Report.write` accepts it.
    """
    return compare_report(evaluations, title).write(path, hide)


def compare_report(evaluations: Evaluations, title: str = "Encoders compared") -> Report:
    """Compare encoders protocol by protocol.

    A value is marked if the paired bootstrap puts the encoder ahead of *every* other one: on the same resamples of the
    same patients, the intervals of all differences exclude 0. Intervals are not corrected for the number of metrics.

    Args:
        evaluations: encoder -> protocol -> result, from ``evaluate_encoder`` or ``load_results``.
        title: title of the page.

    Returns:
        A report with one section per protocol that ran for at least two encoders: panels of the main metrics, a table
        of all metrics, and the cases of each encoder. A baseline that differs between encoders, such as random weights
        of two architectures, appears once for each.

    Raises:
        ValueError: if there are fewer than two encoders, they share no protocol, or a protocol ran with other settings
            or on other patients.
    """
    names = list(evaluations)
    protocols = list(dict.fromkeys(protocol for results in evaluations.values() for protocol in results))
    shared = {
        protocol: {
            name: evaluations[name][protocol]
            for name in names
            if protocol in evaluations[name] and evaluations[name][protocol].metrics
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
            *dict.fromkeys(note for result in results.values() for note in result.notes),
        )
    return report


def _ahead(names: Sequence[str], differences: Differences) -> dict[str, str]:
    """Map metrics to the encoder that is ahead of every other one."""
    wins: Counter[tuple[str, str]] = Counter()
    for (first, second), metrics in differences.items():
        winner = {"first": first, "second": second}
        wins.update((metric, winner[entry.ahead]) for metric, entry in metrics.items() if entry.ahead)
    return {metric: name for (metric, name), count in wins.items() if count == len(names) - 1}


def _tables(results: Mapping[str, Result], ahead: Mapping[str, str]) -> list[ReportTable]:
    first, baselines = next(iter(results.values())), baselines_of(results)
    columns, tables = ["metric", *results, *baselines, "unit"], []
    for title, names in metric_groups(first).items():
        rows = []
        for metric in names:
            cells = [format_metric(result.metrics.get(metric)) for result in results.values()]
            marked = [cell + MARK * (ahead.get(metric) == name) for name, cell in zip(results, cells, strict=True)]
            beside = [format_metric(baseline.get(metric), interval=False) for baseline in baselines.values()]
            entry = first.metrics[metric]
            rows.append([metric_title(metric.removesuffix(f"/{title}"), entry), *marked, *beside, entry.unit])
        tables.append(ReportTable(columns, rows, table_caption(first, title)))
    return tables


def _differences(differences: Differences) -> list[ReportTable]:
    """Paired differences of every metric, for each pair of encoders."""
    tables = []
    for (first, second), metrics in differences.items():
        winner: dict[str | None, str] = {"first": first, "second": second, None: ""}
        rows = [
            [metric.replace("_", " "), f"{entry.difference:+.3f}", _signed(entry), winner[entry.ahead]]
            for metric, entry in metrics.items()
        ]
        columns = ["metric", f"{first} minus {second}", "interval", "ahead"]
        tables.append(ReportTable(columns, rows, "Paired differences over the same patients"))
    return tables


def _signed(entry: Difference) -> str:
    return "–" if entry.low is None else f"{entry.low:+.3f} to {entry.high:+.3f}"


def _cases(results: Mapping[str, Result]) -> list[ReportFigure]:
    return [picture for name, result in results.items() for picture in case_pictures(result, name)]
