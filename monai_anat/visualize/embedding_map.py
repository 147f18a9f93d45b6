"""Embeddings in two dimensions, colored by what they show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from monai_anat.visualize.figures import PALETTE

__all__ = ["draw_embedding_map"]

_MARKS = "osD^vP"


def draw_embedding_map(points: Any, labels: Sequence[int], names: Sequence[str], title: str = "") -> Figure:
    """A scatter plot; color and mark together tell the labels apart.

    Args:
        points: (N, 2), as t-SNE gives them; the axes have no meaning.
        labels: (N,) number of each point's name.
        names: for the legend.
        title: stands above.

    Raises:
        ValueError: if there is not one label for each point.

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
            label=name if len(chosen) and len(names) <= 24 else None,
        )
    axis.set_xticks([])
    axis.set_yticks([])
    axis.set_title(title, fontsize=10)
    if axis.get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure
