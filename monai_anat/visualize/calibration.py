"""Calibration curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from monai_anat.visualize.figures import PALETTE, plain_text

__all__ = ["draw_calibration"]


def draw_calibration(
    curves: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike]],
    captions: Mapping[str, str] | None = None,
    columns: int = 4,
) -> Figure:
    """Draw one calibration curve per class: observed against predicted frequency of positives.

    Each point is a bin, and its area is proportional to the number of images in it. A perfectly calibrated classifier
    lies on the gray diagonal; below it the classifier is overconfident, above it underconfident.

    Args:
        curves: class name -> (predicted, observed, counts), each (K,).
        captions: class name -> second line of the panel title, such as the calibration error.
        columns: number of panels per row.

    Returns:
        The figure.

    Raises:
        ValueError: if there is no curve, or its three arrays differ in length.

    >>> len(draw_calibration({"Mass": ([0.1, 0.8], [0.0, 1.0], [5, 5])}).axes)
    1
    """
    if not curves:
        raise ValueError("curves must hold at least one class, got none; a class needs images with a known label")
    columns = min(columns, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(2.6 * columns, 3.2 * rows), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat[len(curves) :]:
        axis.set_axis_off()
    for axis, (name, curve) in zip(axes.flat, curves.items(), strict=False):
        predicted, observed, counts = (np.asarray(part, dtype=np.float64) for part in curve)
        if not len(predicted) == len(observed) == len(counts) > 0:
            raise ValueError(
                f"predicted, observed and counts of {name} must have the same, positive length, got lengths "
                f"{len(predicted)}, {len(observed)} and {len(counts)}"
            )
        axis.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1, zorder=1)
        axis.plot(predicted, observed, color=PALETTE[5], linewidth=1.2, zorder=2)
        axis.scatter(predicted, observed, s=12 + 90 * counts / counts.sum(), color=PALETTE[5], zorder=3)
        _dress(axis, [name, *([captions[name]] if captions and name in captions else [])])
    for axis in axes[:, 0]:
        axis.set_ylabel("observed frequency", fontsize=8)
    for axis in axes.flat[max(0, len(curves) - columns) : len(curves)]:
        axis.set_xlabel("predicted probability", fontsize=8)
    return figure


def _dress(axis: Axes, lines: Sequence[str]) -> None:
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1), aspect="equal")
    axis.tick_params(labelsize=7)
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_title(plain_text("\n".join(lines)), fontsize=9)
