"""Landmark correspondence between two images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch

from monai_anat.visualize.figures import PALETTE, picture_panels, plain_text, show_gray

__all__ = ["draw_correspondence"]


def draw_correspondence(
    image: Any,
    landmarks: Any,
    other_image: Any,
    found: Any,
    truth: Any = None,
    names: Sequence[str] | None = None,
    titles: tuple[str, str] = ("one patient", "another patient"),
) -> Figure:
    """Draw landmarks of one image, joined by arrows to their matches in another image.

    Args:
        image: image (H, W) or (C, H, W) with known landmarks.
        landmarks: (K, 2), row and column in its pixels; NaN rows are not drawn.
        other_image: image that was searched.
        found: (K, 2), matches, row and column in its pixels.
        truth: (K, 2), true positions, drawn as rings with a dotted line to the match.
        names: names of the landmarks for the legend.
        titles: titles of the two panels.

    Returns:
        The figure.

    Raises:
        ValueError: if landmarks, found and truth differ in shape.

    >>> points = np.array([[2.0, 3.0], [5.0, 6.0]])
    >>> len(draw_correspondence(np.eye(8), points, np.eye(8), points).axes)
    2
    """
    start, end = np.asarray(landmarks, dtype=float), np.asarray(found, dtype=float)
    real = end if truth is None else np.asarray(truth, dtype=float)
    if start.shape != end.shape or real.shape != end.shape or end.ndim != 2 or end.shape[1] != 2:
        raise ValueError(
            f"landmarks, found and truth must all be (K, 2), got {start.shape}, {end.shape} and {real.shape}"
        )
    figure, axes = picture_panels(1, 2, panel_size=3.8)
    show_gray(axes[0, 0], image, titles[0])
    show_gray(axes[0, 1], other_image, titles[1])
    for index in range(len(start)):
        if np.isnan(start[index]).any() or np.isnan(end[index]).any():
            continue
        color = PALETTE[index % len(PALETTE)]
        name = plain_text(names[index]) if names is not None else None
        axes[0, 0].plot(
            start[index, 1], start[index, 0], "o", color=color, markeredgecolor="black", markersize=6, label=name
        )
        axes[0, 1].plot(end[index, 1], end[index, 0], "o", color=color, markeredgecolor="black", markersize=6)
        figure.add_artist(
            ConnectionPatch(
                xyA=(start[index, 1], start[index, 0]),
                xyB=(end[index, 1], end[index, 0]),
                coordsA="data",
                coordsB="data",
                axesA=axes[0, 0],
                axesB=axes[0, 1],
                color=color,
                linewidth=1.1,
                alpha=0.85,
                arrowstyle="->",
                shrinkA=4,
                shrinkB=4,
            )
        )
        if truth is not None and not np.isnan(real[index]).any():
            axes[0, 1].plot(real[index, 1], real[index, 0], "o", mfc="none", mec=color, mew=1.6, markersize=11)
            axes[0, 1].plot(*np.stack([real[index], end[index]]).T[::-1], color=color, linewidth=1.0, linestyle=":")
    if names is not None and axes[0, 0].get_legend_handles_labels()[0]:
        figure.legend(loc="outside lower center", ncols=3, fontsize=8, frameon=False)
    return figure
