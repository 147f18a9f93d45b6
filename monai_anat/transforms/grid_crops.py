"""Overlapping crops of one grid, with known matching cells."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Randomizable, SpatialCrop, Transform
from torch import Tensor

from monai_anat.keys import CORRESPONDENCE, VIEW_1, VIEW_2
from monai_anat.transforms.array_kinds import BACKENDS
from monai_anat.transforms.draws import draw_integers
from monai_anat.transforms.geometry import crop_slices, match_cells, per_axis, required_shape
from monai_anat.transforms.shared_draw import shared_shape

__all__ = ["GridCropsDraw", "OverlappingGridCrops", "RandOverlappingGridCropsd", "draw_grid_crops"]


@dataclass(frozen=True)
class GridCropsDraw:
    """Position of two crops: the first pixel ``origin`` of their grid, and the first cell of each crop on it."""

    origin: tuple[int, ...]
    offset_1: tuple[int, ...]
    offset_2: tuple[int, ...]


def draw_grid_crops(
    R: np.random.RandomState,
    spatial_shape: Sequence[int],
    grid_size: int | Sequence[int] = 14,
    cell_size: int | Sequence[int] = 32,
    margin: int | Sequence[int] = 4,
    jitter: bool = True,
) -> GridCropsDraw:
    """Draw the positions of two crops. PEAC, section 3 (arXiv:2312.00335).

    A grid of ``grid_size + margin`` cells is placed uniformly in the image. Each crop is then placed independently at
    one of ``margin + 1`` positions per axis on that grid.

    Args:
        R: random generator.
        spatial_shape: shape of the image without channels, in pixels.
        grid_size: number of cells per side of a crop.
        cell_size: side of a cell in pixels.
        margin: largest offset between the crops per axis, in cells.
        jitter: if True, place the grid at any pixel. If False, place it at multiples of the cell size, so that all
            crops of an image lie on one grid.

    Returns:
        The positions.

    Raises:
        ValueError: if the image is too small.

    >>> draw_grid_crops(np.random.RandomState(0), (576, 576)).origin
    (0, 0)
    """
    dims = len(spatial_shape)
    need = required_shape(grid_size, cell_size, margin, dims)
    if any(side < least for side, least in zip(spatial_shape, need, strict=True)):
        raise ValueError(
            f"img must have a spatial shape of at least {need} for grid_size={grid_size}, cell_size={cell_size} and "
            f"margin={margin}, got {tuple(spatial_shape)}; grow it first with its aspect kept, "
            "or take a smaller cell_size or margin"
        )
    spare = np.asarray(spatial_shape) - np.asarray(need)
    if jitter:
        origin = draw_integers(R, np.zeros(dims, np.int64), spare)
    else:
        cell = np.asarray(per_axis(cell_size, dims, "cell_size"))
        origin = draw_integers(R, np.zeros(dims, np.int64), spare // cell) * cell
    apart = np.asarray(per_axis(margin, dims, "margin", minimum=0))
    offset_1, offset_2 = draw_integers(R, np.zeros((2, dims), np.int64), np.stack([apart, apart])).tolist()
    return GridCropsDraw(tuple(origin.tolist()), tuple(offset_1), tuple(offset_2))


def _crop(img: NdarrayOrTensor, window: tuple[slice, ...]) -> NdarrayOrTensor:
    """Copy one window, and update the affine of a MetaTensor."""
    if isinstance(img, MetaTensor):
        part: NdarrayOrTensor = SpatialCrop(roi_slices=list(window))(img)
    else:
        part = img[(slice(None), *window)]
    # the crops overlap, so without a copy an in-place change of one would change the other
    copy: NdarrayOrTensor = part.clone() if isinstance(part, Tensor) else part.copy()
    return copy


class OverlappingGridCrops(Transform):
    """Crop two views of whole cells from one grid, with a map between their matching cells.

    PEAC, section 3 (arXiv:2312.00335). There is no resampling, so matching cells are identical pixel by pixel.

    Args:
        grid_size: number of cells per side of a crop, one number or one per axis.
        cell_size: side of a cell in pixels, one number or one per axis.

    >>> image = np.arange(36).reshape(1, 6, 6)
    >>> view_1, view_2, correspondence = OverlappingGridCrops(grid_size=2, cell_size=2)(image, (0, 0), (0, 1))
    >>> correspondence
    tensor([-1,  0, -1,  2])
    >>> bool((view_1[:, :, 2:] == view_2[:, :, :2]).all())
    True
    """

    backend = BACKENDS

    def __init__(self, grid_size: int | Sequence[int] = 14, cell_size: int | Sequence[int] = 32) -> None:
        self.grid_size = grid_size
        self.cell_size = cell_size

    def __call__(  # type: ignore[override]  # MONAI's base class has one argument, but its own transforms take more
        self,
        img: NdarrayOrTensor,
        offset_1: Sequence[int],
        offset_2: Sequence[int],
        origin: int | Sequence[int] = 0,
    ) -> tuple[NdarrayOrTensor, NdarrayOrTensor, Tensor]:
        """Crop two views.

        Args:
            img: image (C, H, W[, D]).
            offset_1: first cell (row, column[, depth]) of crop 1 on the grid.
            offset_2: first cell of crop 2.
            origin: first pixel of the grid, one number or one per axis.

        Returns:
            Both crops, and the correspondence (N,) of :func:`~monai_anat.transforms.match_cells`.

        Raises:
            ValueError: if a crop does not lie inside the image.
        """
        windows = [self.window(img, offset, origin) for offset in (offset_1, offset_2)]
        view_1, view_2 = (_crop(img, window) for window in windows)
        return view_1, view_2, match_cells(offset_1, offset_2, self.grid_size)

    def window(self, img: NdarrayOrTensor, offset: Sequence[int], origin: int | Sequence[int] = 0) -> tuple[slice, ...]:
        """Compute the slices of a crop in pixels.

        Args:
            img: image (C, H, W[, D]).
            offset: first cell of the crop on the grid.
            origin: first pixel of the grid.

        Returns:
            One slice per axis.

        Raises:
            ValueError: if the crop does not lie inside the image.
        """
        spatial = tuple(img.shape[1:])
        if len(offset) != len(spatial):
            raise ValueError(
                f"offset must have one value per axis, got {tuple(offset)} for img of shape {tuple(img.shape)}; "
                "img is channel first, e.g. by EnsureChannelFirst"
            )
        window = crop_slices(offset, self.grid_size, self.cell_size, origin)
        if any(part.stop > side for part, side in zip(window, spatial, strict=True)):
            raise ValueError(
                f"the crop must lie inside the image, got offset={tuple(offset)}, origin={origin}, "
                f"grid_size={self.grid_size} and cell_size={self.cell_size}, which end at "
                f"{tuple(part.stop for part in window)} of {spatial}; move the crop or grow the image"
            )
        return window


class RandOverlappingGridCropsd(Randomizable, MapTransform, InvertibleTransform):
    """Crop two random overlapping views of one grid, with a map between their matching cells.

    These are the views of PEAC, section 3 (arXiv:2312.00335), without resampling or flips; see :func:`draw_grid_crops`.
    The crops of the first key become ``view_1`` and ``view_2``. The crops of a further key, at the same positions,
    become ``<key>_view_1`` and ``<key>_view_2``. The map is ``correspondence``. The images stay in the sample.

    Args:
        keys: keys of images (C, H, W[, D]) of the same spatial shape.
        grid_size: number of cells per side of a crop, one number or one per axis.
        cell_size: side of a cell in pixels, one number or one per axis.
        margin: largest offset between the crops per axis, in cells. With 4 of 14 cells, as in PEAC, the crops share at
            least 51 % of their area.
        jitter: if True, place the grid at any pixel; if False, at multiples of the cell size.
        allow_missing_keys: if True, skip keys that the sample does not have.

    Raises:
        ValueError: if an image is too small, or the images of a sample differ in shape.

    >>> crops = RandOverlappingGridCropsd("image", grid_size=2, cell_size=4, margin=1).set_random_state(0)
    >>> sample = crops({"image": np.zeros((1, 12, 14))})
    >>> sample["view_1"].shape, sample["view_2"].shape, sample["correspondence"].shape
    ((1, 8, 8), (1, 8, 8), torch.Size([4]))
    """

    backend = BACKENDS

    def __init__(
        self,
        keys: KeysCollection,
        grid_size: int | Sequence[int] = 14,
        cell_size: int | Sequence[int] = 32,
        margin: int | Sequence[int] = 4,
        jitter: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.crops = OverlappingGridCrops(grid_size, cell_size)
        self.margin = margin
        self.jitter = jitter
        self.placement = GridCropsDraw((), (), ())

    def randomize(self, data: Sequence[int]) -> None:
        """Draw the positions in an image of spatial shape ``data``; the draw is stored as ``placement``."""
        self.placement = draw_grid_crops(
            self.R, data, self.crops.grid_size, self.crops.cell_size, self.margin, self.jitter
        )

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop the views of one sample."""
        out = dict(data)
        keys = list(self.key_iterator(out))
        shape = shared_shape(out, keys)
        if shape is not None:
            self.randomize(shape)
        place = self.placement
        for key in keys:
            names = (VIEW_1, VIEW_2) if key == self.keys[0] else (f"{key}_{VIEW_1}", f"{key}_{VIEW_2}")
            views = self.crops(out[key], place.offset_1, place.offset_2, place.origin)
            out[names[0]], out[names[1]], out[CORRESPONDENCE] = views
        return out

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Raise an error: the transform cannot be inverted, since the image stays in the sample beside its two crops.

        Raises:
            NotImplementedError: always. The message names the way out.
        """
        raise NotImplementedError(
            f"RandOverlappingGridCropsd cannot be inverted: {self.keys[0]!r} is still in the sample, uncropped. For "
            "the place of a crop call OverlappingGridCrops.window, or leave this transform out of the chain to invert"
        )
