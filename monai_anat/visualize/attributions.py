"""Attribution maps over radiographs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from monai_anat.visualize.figures import Stack, as_gray, equal_lengths, picture_panels, show_gray

__all__ = ["draw_attributions"]

#: opacity at the largest value of a map, at which the radiograph below is still visible
STRONGEST = 0.4


def draw_attributions(
    images: Stack, maps: Stack, captions: Sequence[str] | None = None, columns: int = 4, title: str = ""
) -> Figure:
    """Draw pairs of panels: a radiograph, and the same radiograph under its attribution map.

    Each map is scaled from its smallest to its largest value. One color bar beside the first row serves all maps.

    Args:
        images: images (H, W) or (C, H, W).
        maps: attribution maps (H, W) of any range; a constant map is not colored.
        captions: text above each pair, such as the class and its probability.
        columns: number of pairs per row.
        title: title of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: if the lists differ in length, or a map differs from its image in size.

    >>> len(draw_attributions([np.eye(8)], [np.ones((8, 8))], ["Mass, 80 %"]).axes)
    2
    """
    texts = list(captions) if captions is not None else [""] * len(images)
    count = equal_lengths(images=images, maps=maps, captions=texts)
    columns = min(columns, count)
    figure, axes = picture_panels(-(-count // columns), 2 * columns, panel_size=1.8, aspect=1.15, title=title)
    panels = axes.reshape(-1, 2)
    colors = _colors()
    for index in range(count):
        pixels = show_gray(panels[index, 0], images[index], texts[index])
        values = as_gray(maps[index].detach().cpu() if isinstance(maps[index], torch.Tensor) else maps[index], "maps")
        if values.shape != pixels.shape:
            raise ValueError(f"a map must have the size of its image {pixels.shape}, got {values.shape}; resize it")
        low, high = float(values.min()), float(values.max())
        strength = (values - low) / (high - low) if high > low else np.zeros_like(values)
        show_gray(panels[index, 1], images[index])
        panels[index, 1].imshow(strength, cmap=colors, vmin=0, vmax=1)
    last = panels[columns - 1, 1]
    bar = figure.colorbar(last.images[1], cax=last.inset_axes((1.05, 0, 0.05, 1)))
    bar.set_ticks([0, 1], labels=["lowest", "highest"], fontsize=8)
    return figure


def _colors() -> ListedColormap:
    """Color map from transparent yellow to opaque red."""
    values = np.linspace(0, 1, 256)
    colors = colormaps["autumn_r"](values)  # (256, 4)
    colors[:, 3] = STRONGEST * values
    return ListedColormap(colors)
