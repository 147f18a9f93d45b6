"""Scatter plots of embeddings in two dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_anat.visualize.figures import PALETTE, plain_text

__all__ = ["draw_embedding_map"]

_MARKS = "osD^vP"


def draw_embedding_map(points: Any, labels: Sequence[int], names: Sequence[str], title: str = "") -> Figure:
    """Draw a scatter plot of embeddings. Each label has its own combination of color and marker.

    Args:
        points: (N, 2), such as the output of t-SNE.
        labels: (N,), index of each point's name.
        names: names for the legend.
        title: title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: if the number of labels differs from the number of points.

    >>> len(draw_embedding_map([[0.0, 1.0], [1.0, 0.0]], [0, 1], ["right apex", "left apex"]).axes)
    1
    """
    places, numbers = np.asarray(points, dtype=float).reshape(-1, 2), np.asarray(labels)
    if len(places) != len(numbers):
        raise ValueError(f"labels must have one entry per point, got {len(numbers)} for {len(places)} points")
    figure = Figure(figsize=(5.2, 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for number, name in enumerate(names):
        chosen = places[numbers == number]
        axis.scatter(
            chosen[:, 0],
            chosen[:, 1],
            s=22,
            c=PALETTE[number % len(PALETTE)],
            marker=_MARKS[number // len(PALETTE) % len(_MARKS)],
            edgecolors="black",
            linewidths=0.3,
            label=plain_text(name) if len(chosen) and len(names) <= 24 else None,
        )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(plain_text(title), fontsize=10)
    if axis.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure
