"""Predicted and true masks over radiographs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from monai_anat.visualize.figures import PALETTE, Stack, equal_lengths, picture_panels, plain_text, show_gray

__all__ = ["draw_segmentations"]

_TRUTH = "#FFFFFF"


def draw_segmentations(
    images: Stack,
    predictions: Stack,
    truths: Stack | None = None,
    class_names: Sequence[str] = ("background", "right lung", "left lung"),
    captions: Sequence[str] | None = None,
    columns: int = 6,
) -> Figure:
    """Draw one panel per image: predicted structures in color, true outlines as dashed white lines.

    Args:
        images: images (H, W) or (C, H, W).
        predictions: predicted masks (H, W) of class numbers.
        truths: true masks (H, W) of class numbers, if known.
        class_names: name of each class; class 0 is not drawn.
        captions: text above each panel, such as its Dice score.
        columns: number of panels per row.

    Returns:
        The figure.

    Raises:
        ValueError: if the lists differ in length, or a mask differs from its image in size.

    >>> mask = np.zeros((8, 8), int); mask[2:6, 2:6] = 1
    >>> len(draw_segmentations([np.eye(8)], [mask], [mask]).axes)
    1
    """
    texts = list(captions) if captions is not None else [""] * len(images)
    count = equal_lengths(images=images, predictions=predictions, captions=texts)
    if truths is not None:
        equal_lengths(images=images, truths=truths)
    columns = min(columns, count)
    figure, axes = picture_panels(-(-count // columns), columns, panel_size=2.2)
    for index, axis in enumerate(axes.flat[:count]):
        pixels = show_gray(axis, images[index], texts[index])
        predicted = _mask(predictions[index], pixels.shape, "predictions")
        for number in range(1, len(class_names)):
            _tint(axis, predicted == number, PALETTE[(number - 1) % len(PALETTE)])
        if truths is not None:
            true = _mask(truths[index], pixels.shape, "truths")
            for number in range(1, len(class_names)):
                _outline(axis, true == number, _TRUTH, "--")
    entries = [
        Line2D([], [], color=PALETTE[(number - 1) % len(PALETTE)], linewidth=2, label=plain_text(name))
        for number, name in enumerate(class_names[1:], start=1)
    ]
    if truths is not None:
        entries.append(Line2D([], [], color="#888888", linestyle="--", label="ground truth (white)"))
    figure.legend(handles=entries, loc="outside lower center", ncols=len(entries), fontsize=8, frameon=False)
    return figure


def _mask(mask: Any, shape: tuple[int, ...], name: str) -> NDArray[np.int64]:
    classes = np.asarray(mask).squeeze().astype(np.int64)
    if classes.shape != shape:
        raise ValueError(
            f"{name} must have the size of their image {shape}, got {classes.shape}; resize one to the other"
        )
    return classes


def _tint(axis: Axes, region: NDArray[np.bool_], color: str) -> None:
    if region.any():
        layer = np.zeros((*region.shape, 4), dtype=np.float32)
        layer[region] = mpl.colors.to_rgba(color, 0.28)
        axis.imshow(layer, interpolation="nearest")
        _outline(axis, region, color, "-")


def _outline(axis: Axes, region: NDArray[np.bool_], color: str, style: str) -> None:
    if region.any() and not region.all():
        axis.contour(region.astype(np.float32), levels=[0.5], colors=[color], linewidths=1.1, linestyles=[style])
