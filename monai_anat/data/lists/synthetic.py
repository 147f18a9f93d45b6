"""Synthetic radiograph for tests and examples: two dark lungs, a bright spine, a heart on the left, ribs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "synthetic_radiograph",
]


def synthetic_radiograph(
    size: int | tuple[int, int] = 128, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Draw a picture that resembles a chest radiograph, and its lung mask.

    The patient's right lung is on the left of the picture, as in every frontal radiograph.

    Args:
        size: height and width in pixels, or one number for both.
        seed: random seed of small changes in position, width and brightness, and of noise.

    Returns:
        Pixels (H, W), float32 in [0, 1], air dark and bone bright, and labels (H, W), uint8: 0 background, 1 right
        lung, 2 left lung.

    >>> pixels, lungs = synthetic_radiograph(64)
    >>> pixels.shape, sorted(set(lungs.ravel().tolist()))
    ((64, 64), [0, 1, 2])
    >>> bool(pixels[lungs > 0].mean() < pixels[lungs == 0].mean())
    True
    """
    height, width = (size, size) if isinstance(size, int) else size
    generator = np.random.default_rng(seed)
    shift_row, shift_column, spread, tone = generator.uniform(-1, 1, 4) * (0.04, 0.04, 0.06, 0.06)
    row, column = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    row, column = row - shift_row, (column - shift_column) / (1 + spread)

    def ellipse(center_row: float, center_column: float, radius_row: float, radius_column: float) -> NDArray[np.bool_]:
        distance = ((row - center_row) / radius_row) ** 2 + ((column - center_column) / radius_column) ** 2
        return np.asarray(distance <= 1, dtype=np.bool_)

    right, left = ellipse(-0.05, -0.42, 0.62, 0.30), ellipse(-0.05, 0.42, 0.62, 0.30)
    body = ellipse(0.3, 0.0, 1.5, 0.95)
    pixels = np.where(body, 0.62 + tone, 0.04)
    pixels = np.where(right | left, 0.25 + tone, pixels)
    pixels = np.where(ellipse(0.25, 0.15, 0.32, 0.30), 0.68 + tone, pixels)
    ribs = (np.sin(16 * (row + 0.35 * column**2)) > 0.75) & (right | left)
    pixels = pixels + 0.12 * ribs + 0.2 * (np.abs(column) < 0.07) * body
    pixels = pixels + generator.normal(0, 0.01, pixels.shape)
    labels = np.zeros((height, width), dtype=np.uint8)
    labels[right] = 1
    labels[left] = 2
    return np.clip(pixels, 0, 1).astype(np.float32), labels
