"""Views of PLACE: overlapping crops with matching cells and their positions in the radiograph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from monai_anat.keys import MATCH, POSITION_1, POSITION_2, SUBCELLS
from monai_anat.methods.peac import RandPEACViewsd
from monai_anat.transforms.geometry import match_cells, per_axis

__all__ = ["RandPLACEViewsd", "cell_positions"]


def cell_positions(
    offset: Sequence[int],
    origin: Sequence[int],
    grid_size: Sequence[int],
    cell_size: Sequence[int],
    spatial_shape: Sequence[int],
) -> Tensor:
    """Compute the centers of the cells of a crop in the whole image.

    Args:
        offset: first cell of the crop on the shared grid, per axis.
        origin: first pixel of the shared grid, per axis.
        grid_size: cells of the crop per axis.
        cell_size: side of a cell in pixels per axis.
        spatial_shape: spatial shape of the whole image.

    Returns:
        Centers (N, d), row-major, in [0, 1] of each axis of the image.

    >>> cell_positions((0, 1), (0, 0), (1, 2), (4, 4), (8, 16))
    tensor([[0.2500, 0.3750],
            [0.2500, 0.6250]])
    """
    axes = [
        (start + (first + torch.arange(cells) + 0.5) * side) / length
        for first, start, cells, side, length in zip(offset, origin, grid_size, cell_size, spatial_shape, strict=True)
    ]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2).to(torch.float32)


class RandPLACEViewsd(RandPEACViewsd):
    """Make the batch item of :class:`PLACEMethod`: the views of PEAC, and where their cells lie in the radiograph.

    The item holds that of :class:`RandPEACViewsd` and ``match`` (N,), the cell of view 2 that shows the pixels of each
    cell of the clean view 1, or -1. It is also defined where view 1 is shuffled and ``correspondence`` is -1.
    ``position_1`` and ``position_2`` (N, d) are the centers of the cells of each view, in [0, 1] of the whole image.
    ``subcells`` (N, d), uniform in [0, 1), selects one finer cell within each cell.

    Args:
        keys: as in :class:`RandPEACViewsd`, and so are all other arguments.

    Raises:
        ValueError: if an argument of :class:`RandPEACViewsd` is out of range, or (when called) the image is smaller
            than the grid.

    >>> views = RandPLACEViewsd(grid_size=4, cell_size=8, margin=1).set_random_state(0)
    >>> sample = views({"image": torch.rand(1, 48, 48)})
    >>> {key: tuple(value.shape) for key, value in sample.items() if key in ("match", "position_2", "subcells")}
    {'match': (16,), 'position_2': (16, 2), 'subcells': (16, 2)}
    """

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for an image of spatial shape ``data`` into ``crops``, ``corruptions`` and ``subcells``."""
        super().randomize(data)
        cells = int(np.prod(per_axis(self.grid_size, len(data), "grid_size")))
        self.subcells = self.R.random_sample((cells, len(data)))

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make views, target, order, matches and positions of one image."""
        item = super().views(pixels)
        shape, crops = tuple(pixels.shape[1:]), self.crops
        grid = per_axis(self.grid_size, len(shape), "grid_size")
        cell = per_axis(self.cell_size, len(shape), "cell_size")
        return {
            **item,
            MATCH: match_cells(crops.offset_1, crops.offset_2, self.grid_size),
            POSITION_1: cell_positions(crops.offset_1, crops.origin, grid, cell, shape),
            POSITION_2: cell_positions(crops.offset_2, crops.origin, grid, cell, shape),
            SUBCELLS: torch.from_numpy(self.subcells).to(torch.float32),
        }
