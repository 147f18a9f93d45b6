"""Restorations, tiles of views and contact sheets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from monai_anat.visualize.figures import Stack, as_gray, equal_lengths, picture_panels, plain_text, show_gray

__all__ = ["draw_contact_sheet", "draw_restorations", "tile_views"]


def draw_restorations(inputs: Stack, restored: Stack, targets: Stack, names: Sequence[str] | None = None) -> Figure:
    """Draw inputs, restorations and targets: one column per sample.

    All three use the intensity range of the target.

    Args:
        inputs: distorted or shuffled views (C, H, W) or (H, W).
        restored: views restored by the network.
        targets: clean views.
        names: one label per sample, such as "shuffled".

    Returns:
        The figure.

    Raises:
        ValueError: if the lists differ in length.

    >>> views = np.random.rand(2, 1, 8, 8)
    >>> len(draw_restorations(views, views, views).axes)
    6
    """
    count = equal_lengths(inputs=inputs, restored=restored, targets=targets)
    titles = list(names) if names is not None else [""] * count
    figure, axes = picture_panels(3, count, panel_size=2.1)
    for column in range(count):
        target = as_gray(targets[column], "targets")
        limits = (float(target.min()), float(target.max()))
        for row, (word, views) in enumerate((("input", inputs), ("restored", restored), ("original", targets))):
            title = f"{word}: {titles[column]}" if row == 0 and titles[column] else word
            show_gray(axes[row, column], views[column], title, limits)
    return figure


def tile_views(views: Any, columns: int = 8, border: int = 2, limit: int = 32) -> NDArray[np.uint8]:
    """Tile a batch of views into one gray image (1, H, W), the format of TensorBoard.

    Each view is stretched to the full intensity range.

    Args:
        views: batch of views (B, C, H, W).
        columns: number of views per row.
        border: width of the white border between views in pixels.
        limit: largest number of views.

    Returns:
        The image as uint8.

    Raises:
        ValueError: if the views are not (B, C, H, W).

    >>> tile_views(np.random.rand(3, 1, 8, 8), columns=2).shape
    (1, 22, 22)
    """
    if np.ndim(views) != 4:
        raise ValueError(f"views must be (B, C, H, W), got shape {tuple(np.shape(views))}; add a batch dimension")
    pictures = [as_gray(view) for view in views[:limit]]
    height, width = pictures[0].shape
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    step_down, step_across = height + border, width + border
    canvas = np.full((1, rows * step_down + border, columns * step_across + border), 255, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        stretched = (picture - picture.min()) / max(1e-6, float(np.ptp(picture)))
        top, left = border + row * step_down, border + column * step_across
        canvas[0, top : top + height, left : left + width] = np.round(255 * stretched)
    return canvas


def draw_contact_sheet(images: Stack, captions: Sequence[str] | None = None, columns: int = 8) -> Figure:
    """Draw many small images, to check the content and the orientation of a data set.

    Args:
        images: images (H, W) or (C, H, W); sizes may differ.
        captions: short text above each image.
        columns: number of images per row.

    Returns:
        The figure.

    Raises:
        ValueError: if there are no images, or the number of captions differs.

    >>> len(draw_contact_sheet([np.eye(8)] * 3, columns=2).axes)
    4
    """
    texts = list(captions) if captions is not None else [""] * len(images)
    count = equal_lengths(images=images, captions=texts)
    columns = min(columns, count)
    figure, axes = picture_panels(-(-count // columns), columns, panel_size=1.5)
    for axis, image, text in zip(axes.flat, images, texts, strict=False):
        show_gray(axis, image)
        axis.set_title(plain_text(text), fontsize=6)
    return figure
