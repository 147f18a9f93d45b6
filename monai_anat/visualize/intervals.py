"""Metric values with confidence intervals, per encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from monai_anat.visualize.figures import LINE_COLORS, plain_text

__all__ = ["draw_intervals"]

_STYLES = ((0, (4, 2)), (0, (1, 2)), (0, (6, 2, 1, 2)))
_SOFT = "#5b6675"


def draw_intervals(
    groups: Mapping[str, Mapping[str, tuple[float, float | None, float | None]]],
    references: Mapping[str, Mapping[str, float | Mapping[str, float]]] | None = None,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draw one panel per metric, with a dot and an interval per encoder.

    Args:
        groups: metric -> encoder -> (value, low, high); low and high are None if there is no interval.
        references: metric -> baseline -> value, drawn as a dashed line. A mapping encoder -> value is drawn beside each
            encoder. One legend serves all panels.
        titles: titles of the panels; by default the names of the metrics.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no metric, or the number of titles does not match the number of metrics.

    >>> figure = draw_intervals({"Dice": {"a": (0.8, 0.7, 0.9), "b": (0.7, None, None)}}, {"Dice": {"position": 0.5}})
    >>> len(figure.axes)
    1
    """
    names = list(groups)
    if not names or (titles is not None and len(titles) != len(names)):
        raise ValueError(
            f"groups must hold at least one metric, and titles one entry per metric, got {names} and {titles}"
        )
    encoders = list(dict.fromkeys(name for values in groups.values() for name in values))
    columns = min(2, len(names))
    rows = -(-len(names) // columns)
    height = 0.9 + 0.3 * len(encoders)
    baselines = list(dict.fromkeys(name for values in (references or {}).values() for name in values))
    styles = dict(zip(baselines, cycle(_STYLES), strict=False))
    figure = Figure(
        figsize=(2.5 * columns, rows * height + 0.25 * bool(baselines)),
        layout=ConstrainedLayoutEngine(h_pad=0.08),  # keeps titles clear of the tick labels above them
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes[len(names) :]:
        axis.remove()
    for number, (axis, metric) in enumerate(zip(axes, names, strict=False)):
        _panel(axis, groups[metric], encoders)
        for name, value in (references or {}).get(metric, {}).items():
            _line(axis, value, encoders, styles[name])
        axis.set_title(plain_text(metric if titles is None else titles[number]), fontsize=9)
        axis.tick_params(labelsize=8, left=number % columns == 0, labelleft=number % columns == 0)
    if baselines:
        lines = [
            Line2D([], [], color=_SOFT, linestyle=styles[name], linewidth=1.0, label=plain_text(name))
            for name in baselines
        ]
        figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), fontsize=8, frameon=False)
    return figure


def _line(axis: Any, value: float | Mapping[str, float], encoders: Sequence[str], style: Any) -> None:
    """Draw one baseline: a line through the panel, or one beside each encoder if the values differ."""
    own = dict.fromkeys(encoders, value) if isinstance(value, (int, float)) else value
    if len(set(own.values())) == 1:
        axis.axvline(next(iter(own.values())), color=_SOFT, linestyle=style, linewidth=1.0)
    else:
        for name, number in own.items():
            place = encoders.index(name)
            axis.plot([number, number], [place - 0.45, place + 0.45], color=_SOFT, linestyle=style, linewidth=1.0)


def _panel(axis: Any, values: Mapping[str, Any], encoders: Sequence[str]) -> None:
    for place, name in enumerate(encoders):
        if name not in values:
            continue
        value, low, high = values[name]
        color = LINE_COLORS[place % len(LINE_COLORS)]
        if low is not None and high is not None:
            axis.plot([low, high], [place, place], color=color, linewidth=2.2, solid_capstyle="round")
        axis.plot([value], [place], "o", color=color, markeredgecolor="black", markeredgewidth=0.6, markersize=6)
    axis.set_yticks(range(len(encoders)), [plain_text(name) for name in encoders])
    axis.set_ylim(len(encoders) - 0.5, -0.5)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.grid(axis="x", color="#dde3ea", linewidth=0.7)
    for side in ("top", "right", "left"):
        axis.spines[side].set_visible(False)
