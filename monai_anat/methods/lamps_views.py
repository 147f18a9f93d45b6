"""Views of Lamps: crops, quadrants, windows and orders from one deformed image."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import (
    AUGMENTED_1,
    AUGMENTED_2,
    CORRESPONDENCE,
    IMAGE,
    ORDER,
    PHASE,
    QUADRANTS,
    VIEW_1,
    VIEW_2,
    WINDOWS,
)
from monai_anat.methods.contrast_views import check_area
from monai_anat.methods.peac import check_margin
from monai_anat.methods.views import RandViewsd
from monai_anat.transforms.appearance import Appearance, RandAppearance, change_appearance
from monai_anat.transforms.draws import draw_integers
from monai_anat.transforms.elastic import ElasticDraw, RandElastic, displacement_field, pixel_positions, sample_at
from monai_anat.transforms.geometry import crop_slices, match_cells, per_axis, required_shape
from monai_anat.transforms.grid_crops import GridCropsDraw, draw_grid_crops
from monai_anat.transforms.resized_crops import draw_resized_crop_box
from monai_anat.transforms.windows import split_quadrants

__all__ = ["OBJECTIVES", "LampsDraw", "RandLampsViewsd", "check_objectives", "source_region"]

#: names of the objectives, in the default order of their turns
OBJECTIVES = ("consistency", "extrapolation", "order", "hierarchy")


@dataclass(frozen=True, eq=False)
class LampsDraw:
    """Draw of one image; entries that its phase does not need are None or empty.

    Attributes:
        canvas: spatial shape in pixels of the canvas on which the views lie.
        box: corner and sides (2, d) of the part of the image that is resampled to the canvas; None for no resampling.
        deformation: deformation of the canvas, applied before anything is cut from it.
        crops: positions of the views on the canvas.
        appearances: changes of appearance of the two augmented views, then of all quadrants.
        windows: first cell (2, d) of the kept window of each view.
        order: order (N,) in which the cells of both views are shuffled.
    """

    canvas: tuple[int, ...]
    box: npt.NDArray[np.int64] | None
    deformation: ElasticDraw | None
    crops: GridCropsDraw
    appearances: tuple[Appearance, ...] = ()
    windows: npt.NDArray[np.int64] | None = None
    order: npt.NDArray[np.int64] | None = None


class RandLampsViewsd(RandViewsd):
    """Make the batch item of :class:`LampsMethod`: two overlapping views on one grid, and the inputs of its objectives.

    A random box of the image (RandomResizedCrop) is resampled to a canvas of ``grid_size + margin + 1`` cells. The same
    resampling applies one random deformation. Views and quadrants are cut after that, at the positions of
    :class:`RandPEACViewsd`, so that parts and wholes stay registered. Contrast, brightness and blur of each augmented
    view and quadrant change independently. There is no flip, because the heart lies on the left. Lamps (arXiv
    2512.22872).

    The item holds the clean ``view_1`` and ``view_2``, (C, h, w[, d]) each, and for the objective

    - consistency: ``augmented_1``, ``augmented_2`` and ``correspondence`` (N,), which maps each cell of view 1 to its
      matching cell in view 2, or to -1;
    - extrapolation: ``windows`` (2, d), the first cell of the kept window of each view;
    - order: ``order`` (N,), the order in which the method shuffles the cells of both views;
    - hierarchy: ``augmented_1``, ``augmented_2`` and ``quadrants`` (2 * 2^d, C, h/2, w/2[, d/2]), those of view 1, then
      those of view 2, in the order of :func:`~monai_anat.transforms.split_quadrants`.

    The ``phase`` of a sample (see :class:`~monai_anat.schedules.TurnPhase`) is the index of its objective. Samples
    without a phase get the inputs of all objectives.

    Differs from the released code: one elastic deformation per image (there, quadrants and views were deformed
    separately, which misregistered parts and wholes by up to 20 pixels); one linear resampling instead of an
    enlargement to 1,024 pixels and a reduction to 608; only the inputs of the current objective are made.

    Args:
        keys: key of the image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        grid_size: cells per side of a view, one number or one per axis.
        cell_size: side of a cell in pixels, the last stride of the backbone.
        margin: largest offset between the two views along an axis, in cells; less than ``grid_size``.
        kept: cells per side of the window that the student sees for extrapolation.
        objectives: objectives of the method, in the same order.
        area: smallest and largest share of the image in the box; None resamples deformed images only.
        ratio: smallest and largest aspect ratio of the box.
        elastic: deformation; that of the paper by default.
        appearance: change of appearance; that of the paper by default.
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.

    Raises:
        ValueError: if the margin allows views without overlap, the window leaves no cell missing, the grid is odd and
            quadrants are needed, or an objective is unknown; when called, if the image is smaller than the grid, or the
            phase is not an objective.

    >>> views = RandLampsViewsd(grid_size=4, cell_size=8, margin=1, kept=3).set_random_state(0)
    >>> sample = views({"image": torch.rand(1, 48, 48), "phase": 3})
    >>> {key: tuple(value.shape) for key, value in sample.items() if key in ("view_1", "augmented_2", "quadrants")}
    {'view_1': (1, 32, 32), 'augmented_2': (1, 32, 32), 'quadrants': (8, 1, 16, 16)}
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        grid_size: int | Sequence[int] = 14,
        cell_size: int | Sequence[int] = 32,
        margin: int | Sequence[int] = 4,
        *,
        kept: int | Sequence[int] = 11,
        objectives: Sequence[str] = OBJECTIVES,
        area: tuple[float, float] | None = (0.85, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        elastic: RandElastic | None = None,
        appearance: RandAppearance | None = None,
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
    ) -> None:
        super().__init__(keys, mean, std)
        check_margin(margin, grid_size)
        if area is not None:
            check_area("area", area)
        check_objectives(objectives, grid_size, kept)
        self.grid_size = grid_size
        self.cell_size = cell_size
        self.margin = margin
        self.kept = kept
        self.objectives = tuple(objectives)
        self.area = area
        self.ratio = ratio
        self.elastic = RandElastic() if elastic is None else elastic
        self.appearance = _appearance() if appearance is None else appearance
        self.wanted = frozenset(objectives)
        self.drawn: LampsDraw | None = None

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Make the batch item of a sample's phase.

        Args:
            data: the sample, with its ``phase`` if the objectives alternate; it is not changed.

        Returns:
            The views and the inputs of the objective, and nothing else of the sample.

        Raises:
            KeyError: if the sample has no image.
            ValueError: if the phase is not the index of an objective, or the image is smaller than the grid.
        """
        phase = data.get(PHASE)
        if phase is not None and not 0 <= phase < len(self.objectives):
            raise ValueError(
                f"phase must be the index of one of the objectives {list(self.objectives)}, got {phase}; "
                f"give the dataset phase=TurnPhase({len(self.objectives)})"
            )
        self.wanted = frozenset(self.objectives if phase is None else [self.objectives[phase]])
        return super().__call__(data)

    def randomize(self, data: Sequence[int]) -> None:
        """Draw the inputs of the phase for an image of spatial shape ``data`` into ``drawn``."""
        R, dims = self.R, len(data)
        grid = np.asarray(per_axis(self.grid_size, dims, "grid_size"))
        canvas = data
        if self.area is not None:
            canvas = required_shape(self.grid_size, self.cell_size, np.add(self.margin, 1).tolist(), dims)
        box = None if self.area is None else draw_resized_crop_box(R, data, self.area, self.ratio)
        deformation = self.elastic.draw(R, dims)
        crops = draw_grid_crops(R, canvas, self.grid_size, self.cell_size, self.margin)
        seen = 0
        if self.wanted & {"consistency", "hierarchy"}:
            seen = 2 + (2 * 2**dims if "hierarchy" in self.wanted else 0)
        appearances = tuple(self.appearance.draw(R) for _ in range(seen))
        windows = order = None
        if "extrapolation" in self.wanted:
            spare = np.broadcast_to(grid - np.asarray(per_axis(self.kept, dims, "kept")), (2, dims))
            windows = draw_integers(R, np.zeros((2, dims), np.int64), spare)
        if "order" in self.wanted:
            order = R.permutation(prod(grid.tolist()))
        self.drawn = LampsDraw(tuple(canvas), box, deformation, crops, appearances, windows, order)

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make the inputs of the phase from one image."""
        shape = tuple(pixels.shape[1:])
        dims = len(shape)
        needed = required_shape(self.grid_size, self.cell_size, self.margin, dims)
        if any(side < least for side, least in zip(shape, needed, strict=True)):
            raise ValueError(
                f"image must have a spatial shape of at least {needed} for grid_size={self.grid_size}, "
                f"cell_size={self.cell_size} and margin={self.margin}, got {shape}; grow it first with its aspect "
                "kept, or use a smaller cell_size or margin"
            )
        self.randomize(shape)
        draw = self.drawn
        if draw is None:
            raise RuntimeError("randomize() of a subclass must leave its draw in self.drawn")
        region = source_region(pixels, draw, needed)
        crops = [
            region[(slice(None), *crop_slices(offset, self.grid_size, self.cell_size))]
            for offset in (draw.crops.offset_1, draw.crops.offset_2)
        ]
        looks = iter(draw.appearances)

        def changed(part: Tensor) -> Tensor:
            return self.normalize(change_appearance(part, next(looks)))

        out = {VIEW_1: self.normalize(crops[0]), VIEW_2: self.normalize(crops[1])}
        if self.wanted & {"consistency", "hierarchy"}:
            out |= {AUGMENTED_1: changed(crops[0]), AUGMENTED_2: changed(crops[1])}
        if "hierarchy" in self.wanted:
            quadrants = [part for crop in crops for part in split_quadrants(crop, dims)]
            out[QUADRANTS] = torch.stack([changed(part) for part in quadrants])  # (2 * 2^d, C, h/2, w/2)
        if "consistency" in self.wanted:
            out[CORRESPONDENCE] = match_cells(draw.crops.offset_1, draw.crops.offset_2, self.grid_size)
        if draw.windows is not None:
            out[WINDOWS] = torch.from_numpy(draw.windows)
        if draw.order is not None:
            out[ORDER] = torch.from_numpy(draw.order)
        return out


def source_region(pixels: Tensor, draw: LampsDraw, shape: Sequence[int]) -> Tensor:
    """Cut the grid that holds both views out of an image, with resampling and deformation in one step.

    Args:
        pixels: image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        draw: the draw, with box, deformation and position of the grid.
        shape: spatial shape of the grid in pixels.

    Returns:
        The grid (C, *shape); the data type does not change if nothing is resampled.
    """
    if draw.box is None and draw.deformation is None:
        window = (slice(at, at + side) for at, side in zip(draw.crops.origin, shape, strict=True))
        return pixels[(slice(None), *window)]
    axes = [1] * len(shape)
    positions = pixel_positions(shape) + torch.tensor(draw.crops.origin).reshape(-1, *axes)
    if draw.deformation is not None:
        positions += displacement_field(shape, draw.deformation)
    if draw.box is not None:
        corner, sides = (torch.from_numpy(row).to(torch.float32).reshape(-1, *axes) for row in draw.box)
        canvas = torch.tensor(draw.canvas).reshape(-1, *axes)
        positions = corner + (positions + 0.5) * (sides / canvas) - 0.5
    return sample_at(pixels, positions)


def check_objectives(objectives: Sequence[str], grid: int | Sequence[int], kept: int | Sequence[int]) -> None:
    """Check that the objectives are known and that the grid suits them.

    Args:
        objectives: names of objectives.
        grid: cells per side of a view.
        kept: cells per side of the window for extrapolation.

    Raises:
        ValueError: if an objective is unknown, the window leaves no cell missing, or a grid with quadrants is odd.
    """
    unknown = [objective for objective in objectives if objective not in OBJECTIVES]
    if unknown or not objectives:
        raise ValueError(f"objectives must be a list of one or more of {list(OBJECTIVES)}, got {objectives!r}")
    cells, window = np.asarray(grid), np.asarray(kept)
    if "extrapolation" in objectives and not ((window >= 1).all() and (window < cells).all()):
        raise ValueError(
            f"kept must be at least 1 and less than the cells per side, so that some are missing, got kept={kept} "
            f"and a grid of {grid}; Lamps keeps 11 of 14"
        )
    if "hierarchy" in objectives and (cells % 2).any():
        raise ValueError(
            f"quadrants need an even number of cells per side, got a grid of {grid}; change image_size or the cells by "
            'one, or remove "hierarchy" from the objectives'
        )


def _appearance() -> RandAppearance:
    """Make the change of appearance of the paper, with blur kernels of 3 to 7 pixels."""
    return RandAppearance(brightness=0.2, contrast=0.2, jitter_prob=0.5, blur_sigma=(0.8, 1.4), blur_prob=0.5)
