"""Random cells of a coarse-to-fine grid over the anatomy."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt
from monai.config import NdarrayOrTensor
from monai.transforms import Randomizable, Transform

from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, same_kind
from monai_anat.transforms.crop_inverse import RandBoxCropd
from monai_anat.transforms.geometry import box_slices, per_axis

__all__ = ["RandAnatomyCell", "RandAnatomyCelld", "anatomy_cell_boxes", "bisection_grid"]


def bisection_grid(level: int | Sequence[int], spatial_dims: int = 2) -> tuple[int, ...]:
    """Compute the number of cells per axis at a level of the anatomy decomposer.

    Level n bisects every cell of level n - 1, alternating between columns, rows and (in 3D) depth, which gives
    ``2 ** n`` cells. Adam, section 2 (Hosseinzadeh Taher et al., MICCAI DART 2023,
    arXiv:2309.15358), trains levels 0, 2 and 4.

    Differs from the released code, in which level n is an n x n grid. The two differ for n = 1 and n = 3 and agree at
    the trained levels.

    Args:
        level: number of bisections, or the grid as (rows, columns[, depth]).
        spatial_dims: 2 or 3.

    Returns:
        Cells per axis (rows, columns[, depth]).

    Raises:
        ValueError: if the level is negative, or the grid has another number of axes.

    >>> [bisection_grid(level) for level in range(5)]
    [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4)]
    """
    if not isinstance(level, int):
        return per_axis(level, spatial_dims, "grid")
    if level < 0:
        raise ValueError(f"level must be at least 0, the whole image, got {level}")
    turn = {1: 0, 0: 1, 2: 2}  # columns are cut first, then rows
    return tuple(2 ** ((level + spatial_dims - 1 - turn[axis]) // spatial_dims) for axis in range(spatial_dims))


def anatomy_cell_boxes(spatial_shape: Sequence[int], level: int | Sequence[int]) -> npt.NDArray[np.int64]:
    """Compute the boxes of the cells of a level, row by row.

    All cells have the same size in whole pixels. Remaining pixels at the far edges belong to no cell.

    Args:
        spatial_shape: shape of the image without channels, d axes.
        level: see :func:`bisection_grid`.

    Returns:
        (N, 2, d): first corner and sides of each cell in pixels.

    Raises:
        ValueError: if there are more cells than pixels along an axis.

    >>> anatomy_cell_boxes((8, 8), level=1).tolist()
    [[[0, 0], [8, 4]], [[0, 4], [8, 4]]]
    """
    shape = tuple(int(side) for side in spatial_shape)
    grid = bisection_grid(level, len(shape))
    side = np.array(shape) // np.array(grid)
    if (side < 1).any():
        raise ValueError(f"an image of {shape} pixels has no {grid} cells; take a lower level, or a larger image")
    place = np.stack(np.unravel_index(np.arange(prod(grid)), grid), axis=1)  # (N, d)
    return np.stack([place * side, np.broadcast_to(side, place.shape)], axis=1).astype(np.int64)


class RandAnatomyCell(Randomizable, Transform):
    """Crop a uniformly drawn cell of a level; see :func:`anatomy_cell_boxes`.

    Args:
        level: number of bisections, or the grid as (rows, columns[, depth]).

    >>> RandAnatomyCell(level=2).set_random_state(0)(np.zeros((1, 64, 48), np.uint8)).shape
    (1, 32, 24)
    """

    backend = BACKENDS

    def __init__(self, level: int | Sequence[int] = 2) -> None:
        self.level = level
        self.box: npt.NDArray[np.int64] = np.zeros((2, 0), np.int64)

    def randomize(self, data: Sequence[int]) -> None:
        """Draw a cell of an image of spatial shape ``data``; the draw is stored as ``box``."""
        boxes = anatomy_cell_boxes(data, self.level)
        self.box = boxes[self.R.randint(len(boxes))]

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Crop one image (C, H, W[, D]); with ``randomize=False``, repeat the last draw."""
        if randomize:
            self.randomize(tuple(img.shape[1:]))
        cell = plain_tensor(img)[box_slices(self.box)].clone()
        return same_kind(cell, img, np.column_stack([np.eye(len(self.box[0])), self.box[0]]))


class RandAnatomyCelld(RandBoxCropd):
    """Dictionary form of :class:`RandAnatomyCell`. The inverse pastes the cell back to its position.

    >>> RandAnatomyCelld("image", level=2)({"image": np.zeros((1, 64, 48), np.uint8)})["image"].shape
    (1, 32, 24)
    """

    array_transform = RandAnatomyCell
