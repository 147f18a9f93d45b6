"""Overlapping grid crops and their matching cells."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from monai_anat.visualize.figures import ACCENT, as_gray, picture_panels, show_gray

__all__ = ["draw_overlapping_crops"]

_NUMBERED = 9  # largest number of numbered cells


def draw_overlapping_crops(
    view_1: Any,
    view_2: Any,
    correspondence: Any,
    grid_size: int | tuple[int, int],
    *,
    image: Any = None,
    corners: Any = None,
) -> Figure:
    """Draw two crops of one image side by side. Matching cells have the same color, and some the same number.

    Args:
        view_1: first crop (H, W) or (C, H, W).
        view_2: second crop of the same size.
        correspondence: (N,), map from each cell of view 1 to its matching cell in view 2, row-major, or -1, as returned
            by ``transforms.geometry.match_cells``.
        grid_size: number of cells per side, or (rows, columns).
        image: source image (H, W) or (C, H, W). It is drawn with both crops framed if ``corners`` is also given.
        corners: (2, 2), row and column of the upper left pixel of each crop in the source image.

    Returns:
        The figure.

    Raises:
        ValueError: if the length of the correspondence differs from the number of cells.

    >>> import torch
    >>> view = torch.rand(1, 8, 8)
    >>> len(draw_overlapping_crops(view, view, torch.arange(4), 2).axes)
    2
    """
    rows, columns = (grid_size, grid_size) if isinstance(grid_size, int) else grid_size
    partner = np.asarray(correspondence).reshape(-1)
    if partner.size != rows * columns:
        raise ValueError(
            f"correspondence must have one entry per cell, got {partner.size} for grid_size={grid_size} "
            f"({rows * columns} cells); pass one sample, not a batch"
        )
    pixels = as_gray(view_1, "view_1")
    cell = (pixels.shape[0] / rows, pixels.shape[1] / columns)
    matched = np.flatnonzero(partner >= 0)
    colors = _colors(matched, columns)
    numbers = _numbered(matched, columns)
    with_source = image is not None and corners is not None
    figure, axes = picture_panels(1, 3 if with_source else 2, panel_size=3.6)
    panels = list(axes[0])
    if with_source:
        _draw_source(
            panels.pop(0), image, np.asarray(corners, dtype=float), pixels.shape, matched, colors, cell, columns
        )
    for panel, view, cells, name, frame in (
        (panels[0], view_1, matched, "crop 1", ACCENT[0]),
        (panels[1], view_2, partner[matched], "crop 2", ACCENT[1]),
    ):
        show_gray(panel, view, f"{name}: {matched.size} of {partner.size} cells match")
        _draw_grid(panel, (rows, columns), cell)
        for index, color in zip(cells, colors, strict=True):
            _fill(panel, index, columns, cell, color)
        for number, position in enumerate(numbers, start=1):
            _write(panel, cells[position], columns, cell, number)
        _frame(panel, (-0.5, -0.5), as_gray(view).shape, frame)
    return figure


def _colors(matched: NDArray[Any], columns: int) -> list[tuple[float, float, float]]:
    """One color per matched cell: the hue depends on the column and the brightness on the row."""
    if matched.size == 0:
        return []
    row, column = matched // columns, matched % columns
    across = (column - column.min()) / max(1, np.ptp(column))
    down = (row - row.min()) / max(1, np.ptp(row))
    palette = mpl.colormaps["turbo"](0.05 + 0.9 * across)[:, :3]
    return [tuple(color * (1.0 - 0.5 * depth)) for color, depth in zip(palette, down, strict=True)]


def _numbered(matched: NDArray[Any], columns: int) -> list[int]:
    """Positions in ``matched`` of a few cells spread over the overlap."""
    if matched.size <= _NUMBERED:
        return list(range(matched.size))
    row, column = matched // columns, matched % columns
    chosen = []
    for share_down in (0.15, 0.5, 0.85):
        for share_across in (0.15, 0.5, 0.85):
            aim_row = row.min() + share_down * np.ptp(row)
            aim_column = column.min() + share_across * np.ptp(column)
            chosen.append(int(np.argmin((row - aim_row) ** 2 + (column - aim_column) ** 2)))
    return list(dict.fromkeys(chosen))


def _draw_source(
    panel: Axes,
    image: Any,
    corners: NDArray[Any],
    view_size: tuple[int, ...],
    matched: NDArray[Any],
    colors: list[tuple[float, float, float]],
    cell: tuple[float, float],
    columns: int,
) -> None:
    show_gray(panel, image, "one radiograph, two crops")
    for index, color in zip(matched, colors, strict=True):
        _fill(panel, index, columns, cell, color, origin=corners[0])
    for (row, column), frame, name, place in zip(corners, ACCENT, ("1", "2"), (0.0, 1.0), strict=True):
        _frame(panel, (column - 0.5, row - 0.5), view_size, frame)
        panel.text(
            column + 4 + place * (view_size[1] - 8),
            row + 4,
            name,
            color="black",
            fontsize=9,
            fontweight="bold",
            ha="left" if place == 0 else "right",
            va="top",
            bbox={"facecolor": frame, "edgecolor": "none", "boxstyle": "round,pad=0.2"},
        )


def _fill(
    panel: Axes,
    index: int,
    columns: int,
    cell: tuple[float, float],
    color: tuple[float, float, float],
    origin: Any = (0.0, 0.0),
) -> None:
    row, column = divmod(int(index), columns)
    corner = (origin[1] + column * cell[1] - 0.5, origin[0] + row * cell[0] - 0.5)
    panel.add_patch(Rectangle(corner, cell[1], cell[0], facecolor=(*color, 0.45), edgecolor="none"))


def _frame(panel: Axes, corner: tuple[float, float], size: tuple[int, ...], color: str) -> None:
    panel.add_patch(Rectangle(corner, size[1], size[0], fill=False, edgecolor=color, linewidth=2.4))


def _draw_grid(panel: Axes, grid: tuple[int, int], cell: tuple[float, float]) -> None:
    height, width = grid[0] * cell[0] - 0.5, grid[1] * cell[1] - 0.5
    panel.hlines([i * cell[0] - 0.5 for i in range(1, grid[0])], -0.5, width, color="white", linewidth=0.35, alpha=0.5)
    panel.vlines([i * cell[1] - 0.5 for i in range(1, grid[1])], -0.5, height, color="white", linewidth=0.35, alpha=0.5)


def _write(panel: Axes, index: int, columns: int, cell: tuple[float, float], number: int) -> None:
    row, column = divmod(int(index), columns)
    panel.text(
        (column + 0.5) * cell[1] - 0.5,
        (row + 0.5) * cell[0] - 0.5,
        str(number),
        color="white",
        fontsize=8,
        fontweight="bold",
        ha="center",
        va="center",
        bbox={"facecolor": (0, 0, 0, 0.6), "edgecolor": "none", "boxstyle": "circle,pad=0.18"},
    )
