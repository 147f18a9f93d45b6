"""Learning curves over the number of labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from monai_anat.visualize.figures import LINE_COLORS, plain_text

__all__ = ["draw_label_curves"]

_STYLES = ((0, ()), (0, (5, 2)), (0, (1, 1.5)), (0, (6, 2, 1, 2)))
_REACH = 0.012  # horizontal offset between curves as a share of the axis, so that intervals do not overlap

#: number of labels, value, low and high; low and high are None if there is no interval
Point = tuple[float, float, float | None, float | None]


def draw_label_curves(
    curves: Mapping[str, Mapping[str, Sequence[Point]]], x_label: str = "labeled images", y_label: str = ""
) -> Figure:
    """Draw scores with intervals against the number of labels on a logarithmic axis.

    Args:
        curves: encoder (color) -> setting, such as frozen or fine-tuned (line style) -> points. Use "" for a single
            setting.
        x_label: label of the horizontal axis.
        y_label: label of the vertical axis.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no point, or a number of labels is not positive.

    >>> figure = draw_label_curves({"ours": {"": [(1, 0.7, 0.6, 0.8), (3, 0.8, None, None)]}})
    >>> figure.axes[0].get_xscale()
    'log'
    """
    numbers = sorted({point[0] for ways in curves.values() for points in ways.values() for point in points})
    if not numbers or numbers[0] <= 0:
        raise ValueError(f"curves must hold points at positive numbers of labels, got {numbers}")
    lines = [(encoder, way) for encoder, ways in curves.items() for way in ways]
    every_way = list(dict.fromkeys(way for _, way in lines))
    rows = -(-(len(curves) + len(every_way) * (len(every_way) > 1)) // 3)
    figure = Figure(figsize=(4.8, 3.3 + 0.2 * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    ratio = max(numbers[-1] / numbers[0], 2.0)
    for place, (encoder, way) in enumerate(lines):
        color = LINE_COLORS[list(curves).index(encoder) % len(LINE_COLORS)]
        style = _STYLES[every_way.index(way) % len(_STYLES)]
        points = sorted(curves[encoder][way])
        shift = ratio ** (_REACH * (place - (len(lines) - 1) / 2))
        x = [point[0] * shift for point in points]
        axis.plot(
            x, [point[1] for point in points], linestyle=style, color=color, marker="o", markersize=4, linewidth=1.5
        )
        for where, (_, _, low, high) in zip(x, points, strict=True):
            if low is not None and high is not None:
                axis.plot([where, where], [low, high], color=color, linewidth=1.2, alpha=0.55)
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator(numbers))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticks(numbers, [f"{number:g}" for number in numbers])
    axis.set_xlabel(x_label, fontsize=9)
    axis.set_ylabel(y_label, fontsize=9)
    axis.tick_params(labelsize=8)
    axis.grid(color="#dde3ea", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    figure.legend(
        handles=_legend(list(curves), every_way), loc="outside lower center", ncols=3, fontsize=8, frameon=False
    )
    return figure


def _legend(encoders: Sequence[str], ways: Sequence[str]) -> list[Line2D]:
    """Legend entries: one per color, and one per line style if there are several."""
    colors = [
        Line2D([], [], color=color, marker="o", markersize=4, label=plain_text(encoder))
        for encoder, color in zip(encoders, cycle(LINE_COLORS), strict=False)
    ]
    styles = [
        Line2D([], [], color="#5b6675", linestyle=_STYLES[number % len(_STYLES)], label=way)
        for number, way in enumerate(ways)
        if len(ways) > 1
    ]
    return colors + styles
