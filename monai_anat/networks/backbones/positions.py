"""Fixed sine-cosine position embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

__all__ = ["sincos_positions"]


def sincos_positions(num_features: int, grid: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    """Compute sine-cosine position embeddings of the cells of a grid.

    The channels are divided equally among the axes, the last axis (the column in 2D) first. Each part holds [sin, cos]
    of the coordinate at wavelengths from 2 pi to 10,000 times that (Vaswani et al., arXiv:1706.03762; the
    two-dimensional form of MAE, arXiv:2111.06377, and Lamps, arXiv:2512.22872).

    Args:
        num_features: number of channels D. Channels that remain after division by twice the number of axes are 0.
        grid: number of cells per axis.
        dtype: type of the result. The computation is in float64.

    Returns:
        Embeddings (N, D), cells in row-major order.

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
