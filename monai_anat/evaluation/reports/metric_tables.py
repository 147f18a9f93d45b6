"""Tables and figures of metrics on evaluation pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

from monai_anat.evaluation.metric import Metric, Metrics
from monai_anat.evaluation.pictures import ReportFigure
from monai_anat.evaluation.protocol import case_pictures, further_figures
from monai_anat.evaluation.reports.report import Report, ReportTable
from monai_anat.evaluation.results import Result
from monai_anat.visualize.intervals import draw_intervals
from monai_anat.visualize.label_curves import draw_label_curves

__all__ = [
    "MARK",
    "add_metrics",
    "baselines_of",
    "curve_figures",
    "format_metric",
    "metric_figures",
    "metric_groups",
    "metric_panels",
    "metric_title",
    "table_caption",
]

#: follows a value that is better by the paired test
MARK = " ▲"
_PANELS = 6  # most metrics of a protocol that are plotted


def add_metrics(report: Report, result: Result) -> None:
    """Append a section with the metrics of a result: figures, tables beside the baselines, cases and notes.

    Args:
        report: the page.
        result: the result of any protocol.
    """
    columns = ["metric", "encoder", *result.baselines, "unit"]
    marks = f" {MARK.strip()}: better than every baseline by the paired test." if result.comparisons else ""
    if any("random" in name for name in result.baselines) and marks:
        marks += " Random weights are those of one seed: a small difference from them is no sign of learning."
    blocks: list[str | ReportTable | ReportFigure] = list(metric_figures({"encoder": result}))
    for title, names in metric_groups(result).items():
        rows = []
        for name in names:
            metric = result.metrics[name]
            value = format_metric(metric) + MARK * _is_ahead(result, name)
            others = [format_metric(baseline.get(name), interval=False) for baseline in result.baselines.values()]
            rows.append([metric_title(name.removesuffix(f"/{title}"), metric), value, *others, metric.unit])
        blocks.append(ReportTable(columns, rows, table_caption(result, title) + marks))
        marks = ""  # below the first table only
    report.add_section(
        result.protocol.capitalize(), *blocks, *further_figures(result), *case_pictures(result), *result.notes
    )


def format_metric(metric: Metric | None, *, interval: bool = True) -> str:
    """Format a value with its interval in brackets, if there is one.

    Args:
        metric: a metric; None and undefined ones give a dash.
        interval: whether to include the interval.

    >>> format_metric(Metric(0.5, 0.4, 0.6))
    '0.500 (0.400 to 0.600)'
    """
    if metric is None or metric.value is None:
        return "–"
    known = interval and metric.low is not None
    return f"{metric.value:.3f}" + (f" ({metric.low:.3f} to {metric.high:.3f})" if known else "")


def metric_title(name: str, metric: Metric) -> str:
    """Format the name of a metric, with an arrow in the direction that is better.

    >>> metric_title("left_right_confusion", Metric(0.1, better="lower"))
    'left right confusion ↓'
    """
    arrow = {"higher": " ↑", "lower": " ↓"}.get(metric.better or "", "")
    return name.replace("_", " ") + arrow


def metric_groups(result: Result) -> dict[str, list[str]]:
    """Group the metrics into tables: one for each number of labels and mode of few-shot protocols, otherwise one.

    >>> metrics = {"dice/3 labels, frozen": Metric(0.8), "hd95/3 labels, frozen": Metric(0.1)}
    >>> metric_groups(Result("few-shot", metrics=metrics, extra={"n_draws": 3}))
    {'3 labels, frozen': ['dice/3 labels, frozen', 'hd95/3 labels, frozen']}
    """
    groups: dict[str, list[str]] = {}
    for name in result.metrics:
        groups.setdefault(name.rpartition("/")[2] if "n_draws" in result.extra else "", []).append(name)
    return groups


def table_caption(result: Result, title: str = "") -> str:
    """Describe the basis of a table: patients, draws and intervals.

    Args:
        result: the result of a protocol.
        title: name of the group of metrics.
    """
    confidence = result.settings.get("confidence", 0.95)
    known = any(metric.low is not None for metric in result.metrics.values())
    draws = f", {result.extra['n_draws']} draws" if "n_draws" in result.extra else ""
    lead = f"{title[0].upper()}{title[1:]}: " if title else ""
    brackets = f", {confidence:.0%} intervals in brackets" if known else ""
    return f"{lead}{result.n_patients} patients{draws}{brackets}; ↑ higher is better, ↓ lower."


def _is_ahead(result: Result, name: str) -> bool:
    """Whether a metric is better than that of every baseline that has it."""
    compared = [metrics[name].ahead for metrics in result.comparisons.values() if name in metrics]
    return bool(compared) and all(ahead == "first" for ahead in compared)


def baselines_of(results: Mapping[str, Result]) -> dict[str, Metrics]:
    """Collect the baselines of several encoders. A baseline that differs between encoders appears once for each.

    Args:
        results: encoder -> result of one protocol.

    >>> found = {
    ...     name: Result("p", baselines={"random": {"Dice": Metric(value)}}) for name, value in (("a", 0.2), ("b", 0.3))
    ... }
    >>> list(baselines_of(found))
    ['random (a)', 'random (b)']
    """
    found: dict[str, Metrics] = {}
    for name in dict.fromkeys(name for result in results.values() for name in result.baselines):
        own = {encoder: result.baselines[name] for encoder, result in results.items() if name in result.baselines}
        values = [{metric: entry.value for metric, entry in baseline.items()} for baseline in own.values()]
        if all(value == values[0] for value in values):
            found[name] = next(iter(own.values()))
        else:
            found |= {f"{name} ({encoder})": baseline for encoder, baseline in own.items()}
    return found


def metric_figures(results: Mapping[str, Result]) -> list[ReportFigure]:
    """Plot curves over numbers of labels, or, without curves, the main metrics with their intervals.

    Args:
        results: encoder -> result of one protocol.
    """
    first = next(iter(results.values()))
    if first.extra.get("curves"):
        return curve_figures(results)
    if all(metric.value is None for metric in first.metrics.values()):
        return []
    caption = f"{first.protocol}: values and intervals; lines are baselines"
    return [ReportFigure(metric_panels(results), caption)]


def metric_panels(results: Mapping[str, Result]) -> Figure:
    """Plot the metrics without parts in their names: encoders with intervals, baselines as lines.

    Args:
        results: encoder -> result of one protocol.
    """
    first = next(iter(results.values()))
    beside = list(dict.fromkeys(name for result in results.values() for name in result.baselines))
    known = [name for name, metric in first.metrics.items() if metric.value is not None]
    main = [name for name in known if "/" not in name] or known
    groups, references, titles = {}, {}, []
    for metric in main[:_PANELS]:
        entries = {name: result.metrics.get(metric) for name, result in results.items()}
        groups[metric] = {
            name: (entry.value, entry.low, entry.high)
            for name, entry in entries.items()
            if entry is not None and entry.value is not None
        }
        lines = {name: _values_of(results, name, metric) for name in beside}
        references[metric] = {name: values for name, values in lines.items() if values}
        titles.append(metric_title(metric, first.metrics[metric]))
    return draw_intervals(groups, references, titles)


def curve_figures(results: Mapping[str, Result]) -> list[ReportFigure]:
    """Plot the curves of ``extra["curves"]``: scores of encoders and baselines over the number of labels.

    Args:
        results: encoder -> result of one protocol.
    """
    lines = {name: result.metrics for name, result in results.items()} | baselines_of(results)
    figures = []
    for curve in next(iter(results.values())).extra.get("curves", []):
        drawn: dict[str, Any] = {}
        for name, metrics in lines.items():
            for way, places in curve["ways"].items():
                known = [(x, metrics[key]) for x, key in places if key in metrics and metrics[key].value is not None]
                if known:
                    points = [(x, metric.value, metric.low, metric.high) for x, metric in known]
                    drawn.setdefault(name, {})[way] = points
        if drawn:
            figure = draw_label_curves(drawn, curve["x_label"], curve["y_label"])
            every = [point for ways in drawn.values() for points in ways.values() for point in points]
            bars = "; bars are intervals" if any(low is not None for _, _, low, _ in every) else ""
            figures.append(ReportFigure(figure, f"{curve['y_label']}, by {curve['x_label']}{bars}"))
    return figures


def _values_of(results: Mapping[str, Result], baseline: str, metric: str) -> dict[str, float]:
    """Value of a metric in the baseline of each encoder."""
    found: dict[str, float] = {}
    for encoder, result in results.items():
        entry = result.baselines.get(baseline, {}).get(metric)
        if entry is not None and entry.value is not None:
            found[encoder] = entry.value
    return found
