"""Where a cell lies, as a fixed vector of sines and cosines."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

__all__ = ["sincos_positions"]


def sincos_positions(num_features: int, grid: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Encode the cells of a grid by sines and cosines of their coordinates.

    The channels are shared out equally among the axes, the last axis (the column in 2D) first, and each share is
    [sin, cos] of the coordinate over wavelengths from 2 pi to 10,000 times that (Vaswani et al., arXiv:1706.03762;
    the two-dimensional form of MAE, arXiv:2111.06377, and Lamps, arXiv 2512.22872).

    Args:
        num_features: channels D; those that do not divide by twice the number of axes stay 0 at the end.
        grid: cells per axis.
        dtype: of the result; the computation is in float64.

    Returns:
        (N, D), cells in row-major order.

    Raises:
        ValueError: if there are too few channels for one sine and cosine per axis.

    >>> sincos_positions(4, (1, 2))  # column: sin 0, cos 0 and sin 1, cos 1; row: sin 0, cos 0
    tensor([[0.0000, 1.0000, 0.0000, 1.0000],
            [0.8415, 0.5403, 0.0000, 1.0000]])
    """
    dims = len(grid)
    waves = num_features // (2 * dims)
    if waves < 1:
        raise ValueError(f"num_features must be at least {2 * dims} for {dims} axes, got num_features={num_features}")
    frequency = 10_000.0 ** -(torch.arange(waves, dtype=torch.float64) / waves)
    axes = torch.meshgrid(*[torch.arange(side, dtype=torch.float64) for side in grid], indexing="ij")
    angles = torch.stack(axes[::-1], -1).reshape(prod(grid), dims, 1) * frequency  # (N, d, waves)
    positions = torch.zeros(prod(grid), num_features, dtype=torch.float64)
    positions[:, : 2 * dims * waves] = torch.cat([angles.sin(), angles.cos()], 2).flatten(1)
    return positions.to(dtype)
