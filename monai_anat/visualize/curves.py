"""Training curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monai_anat.visualize.figures import LINE_COLORS, plain_text

__all__ = ["draw_curves"]


def draw_curves(
    history: Sequence[Mapping[str, float]], names: Sequence[str] | None = None, x: str = "step", columns: int = 3
) -> Figure:
    """Draw each logged quantity against the step, with its running median.

    Args:
        history: one mapping per logged step; not every step needs every key.
        names: quantities to draw, in this order; by default all numbers except ``x`` and ``epoch``.
        x: key of the horizontal axis.
        columns: number of panels per row.

    Returns:
        The figure.

    Raises:
        ValueError: if the history holds nothing to draw.

    >>> figure = draw_curves([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}])
    >>> figure.axes[0].get_title(loc="left")
    'loss'
    """
    if names is None:
        names = [key for key in dict.fromkeys(key for row in history for key in row) if key not in (x, "epoch")]
    series = {name: points for name in names if len(points := _series(history, x, name))}
    if not series:
        raise ValueError(f"history must hold numbers under {x!r} and another key, got {len(history)} rows with none")
    columns = min(columns, len(series))
    rows = -(-len(series) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.2 * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(series) :]:
        axis.set_axis_off()
    for number, (axis, (name, points)) in enumerate(zip(axes.flat, series.items(), strict=False)):
        color = LINE_COLORS[number % len(LINE_COLORS)]
        smooth = _running_median(points[:, 1])
        axis.plot(points[:, 0], points[:, 1], color=color, alpha=0.3, linewidth=0.8)
        axis.plot(points[:, 0], smooth, color=color, linewidth=1.8)
        axis.set_title(plain_text(name.replace("_", " ")), fontsize=9, loc="left")
        axis.annotate(
            f"{smooth[-1]:.3g}", (points[-1, 0], smooth[-1]), fontsize=8, ha="right", va="bottom", color=color
        )
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25, linewidth=0.5)
        axis.spines[["top", "right"]].set_visible(False)
        axis.set_xlabel(x, fontsize=7)
    return figure


def _series(history: Sequence[Mapping[str, float]], x: str, name: str) -> NDArray[np.float64]:
    """Points (N, 2) of the rows with finite numbers under both keys."""
    points = []
    for row in history:
        pair = (row.get(x), row.get(name))
        if all(isinstance(value, int | float) and np.isfinite(value) for value in pair):
            points.append(pair)
    return np.asarray(points, dtype=np.float64)


def _running_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Running median over a twentieth of the curve; the window shrinks at the ends."""
    reach = max(1, len(values) // 40)
    return np.asarray([np.median(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))])
