"""Where in a radiograph a classifier found its answer."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.figure import Figure

from .figures import Stack, as_gray, equal_lengths, picture_panels, show_gray

__all__ = ["draw_attributions"]


def draw_attributions(
    images: Stack, maps: Stack, captions: Sequence[str] | None = None, columns: int = 4, title: str = ""
) -> Figure:
    """Pairs of panels: the radiograph, and the same with its map in colour, stronger where the map is larger.

    Args:
        images: (H, W) or (C, H, W) each.
        maps: (H, W) each, of any range; a constant map stays without colour.
        captions: a text above each pair, such as the class and its probability.
        columns: pairs per row.
        title: stands above all panels.

    Raises:
        ValueError: if the lists differ in length, or a map and its image in size.

    >>> len(draw_attributions([np.eye(8)], [np.ones((8, 8))], ["Mass, 80 %"]).axes)
    2
    """
    texts = list(captions) if captions is not None else [""] * len(images)
    count = equal_lengths(images=images, maps=maps, captions=texts)
    columns = min(columns, count)
    figure, axes = picture_panels(-(-count // columns), 2 * columns, panel_size=1.8, title=title)
    panels = axes.reshape(-1, 2)
    for index in range(count):
        pixels = show_gray(panels[index, 0], images[index], texts[index])
        values = as_gray(maps[index].detach().cpu() if isinstance(maps[index], torch.Tensor) else maps[index], "maps")
        if values.shape != pixels.shape:
            raise ValueError(f"a map must have the size of its image {pixels.shape}, got {values.shape}; resize it")
        low, high = float(values.min()), float(values.max())
        strength = (values - low) / (high - low) if high > low else np.zeros_like(values)
        show_gray(panels[index, 1], images[index])
        panels[index, 1].imshow(strength, cmap="autumn_r", vmin=0, vmax=1, alpha=0.65 * strength)
    return figure
