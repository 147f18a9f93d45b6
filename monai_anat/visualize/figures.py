"""Panels, gray images and PNG encoding, without the global state of pyplot."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

__all__ = [
    "ACCENT",
    "LINE_COLORS",
    "PALETTE",
    "Stack",
    "as_gray",
    "encode_png",
    "equal_lengths",
    "picture_panels",
    "plain_text",
    "rasterize",
    "show_gray",
]

#: several images or masks: a list of them, or one array or tensor with a batch dimension
Stack = Sequence[Any] | NDArray[Any] | torch.Tensor

#: colors that color-blind readers can distinguish, also on gray images (after Okabe and Ito)
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#F0E442", "#0072B2", "#D55E00", "#999999")
#: colors of a pair: crop 1 and crop 2, right and left lung
ACCENT = (PALETTE[0], PALETTE[1])
#: colors of lines on white, strongest first
LINE_COLORS = tuple(PALETTE[number] for number in (5, 6, 2, 3, 0, 1, 7))


def picture_panels(
    rows: int, columns: int, panel_size: float = 3.0, aspect: float = 1.0, title: str = ""
) -> tuple[Figure, NDArray[Any]]:
    """Create a white figure with a grid of panels without axes.

    Args:
        rows: number of rows.
        columns: number of columns.
        panel_size: width of a panel in inches.
        aspect: height of a panel divided by its width.
        title: title of the figure.

    Returns:
        The figure and its axes as an array (rows, columns).

    >>> figure, axes = picture_panels(2, 3)
    >>> axes.shape
    (2, 3)
    """
    head = 0.45 if title else 0.0
    figure = Figure(
        figsize=(columns * panel_size, rows * (panel_size * aspect + 0.22) + head),
        layout="constrained",
        facecolor="white",
    )
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    if title:
        figure.suptitle(plain_text(title), fontsize=11, fontweight="bold")
    return figure, axes


def as_gray(image: Any, name: str = "image") -> NDArray[np.float32]:
    """Convert an image to a float32 array (H, W).

    Args:
        image: array or tensor (H, W) or (C, H, W); channels are averaged.
        name: name of the image in the error message.

    Returns:
        The array.

    Raises:
        ValueError: if the image has another number of dimensions.

    >>> as_gray(torch.zeros(1, 4, 5)).shape
    (4, 5)
    """
    pixels = image.detach().to("cpu", torch.float32).numpy() if isinstance(image, torch.Tensor) else np.asarray(image)
    if pixels.ndim == 3 and pixels.shape[0] <= 4:
        pixels = pixels.mean(axis=0)
    if pixels.ndim != 2:
        raise ValueError(
            f"{name} must be (H, W) or (C, H, W), got shape {tuple(pixels.shape)}; pick one slice or sample"
        )
    return np.asarray(pixels, dtype=np.float32)


def show_gray(
    axis: Axes, image: Any, title: str = "", limits: tuple[float, float] | None = None
) -> NDArray[np.float32]:
    """Draw a radiograph on a panel, air dark and bone bright.

    Args:
        axis: the panel.
        image: image (H, W) or (C, H, W).
        title: title of the panel.
        limits: values of black and white; by default the smallest and largest value of the image.

    Returns:
        The pixels (H, W).
    """
    pixels = as_gray(image)
    low, high = limits or (float(pixels.min()), float(pixels.max()))
    axis.imshow(pixels, cmap="gray", vmin=low, vmax=max(high, low + 1e-6), interpolation="lanczos")
    if title:
        axis.set_title(plain_text(title), fontsize=9)
    return pixels


def encode_png(figure: Figure, dpi: int = 110) -> bytes:
    """Encode a figure as the bytes of a PNG file.

    >>> encode_png(picture_panels(1, 1)[0])[1:4]
    b'PNG'
    """
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, facecolor=figure.get_facecolor(), metadata={"Software": ""})
    return stream.getvalue()


def rasterize(figure: Figure, dpi: int = 110) -> NDArray[np.uint8]:
    """Render a figure as a uint8 array (3, H, W), the format of TensorBoard.

    >>> rasterize(picture_panels(1, 1)[0]).shape[0]
    3
    """
    with Image.open(io.BytesIO(encode_png(figure, dpi))) as picture:
        return np.ascontiguousarray(np.asarray(picture.convert("RGB")).transpose(2, 0, 1))


def plain_text(text: str) -> str:
    """Escape a text for matplotlib, which would read what stands between two dollar signs as mathematics.

    >>> plain_text("apex $1 to $2")
    'apex \\\\$1 to \\\\$2'
    """
    return text.replace("$", r"\$")


def equal_lengths(**lists: Stack) -> int:
    """Return the common length of several lists of samples.

    Raises:
        ValueError: if the lengths differ or are 0.
    """
    lengths = {name: len(values) for name, values in lists.items()}
    if len(set(lengths.values())) != 1 or 0 in lengths.values():
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise ValueError(f"{', '.join(lengths)} must have the same, positive length, got {told}")
    return next(iter(lengths.values()))
