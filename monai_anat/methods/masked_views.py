"""Masked views of one image, for methods that restore the hidden cells."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypedDict

import numpy as np
import torch
from monai.config import KeysCollection
from torch import Tensor

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE, MASK, TARGET, VIEW_1
from monai_anat.methods.contrast_views import ViewDraw, alter_view, check_area, cut_view
from monai_anat.methods.views import RandViewsd
from monai_anat.transforms.distortions import Distortion, RandCutSwap, RandDistort
from monai_anat.transforms.draws import check_prob
from monai_anat.transforms.geometry import per_axis
from monai_anat.transforms.masks import draw_random_mask
from monai_anat.transforms.resized_crops import draw_resized_crop_box

__all__ = ["MaskedViewOptions", "RandMaskedViewsd"]


class MaskedViewOptions(TypedDict, total=False):
    """Keyword arguments that :class:`RandMaskedViewsd` and its subclasses share, described there."""

    flip_prob: float
    mean: float
    std: float
    distorter: RandDistort | RandCutSwap | None
    mode: Literal["bilinear", "bicubic"]


class RandMaskedViewsd(RandViewsd):
    """Make a random crop of an image and a random mask of its cells: the views of SimMIM.

    A random box is cut out, resampled, and flipped with ``flip_prob``. Then the hidden cells are drawn (Xie et al.,
    CVPR 2022, arXiv:2111.09886, section 4.1). The pixels do not change; the method hides them from its network. The
    published flip probability is 0.5; the default here is 0, because the heart lies on the left.

    Give the ``distorter`` of an anatomy method to compare objectives with equal augmentation. The network then sees the
    distorted crop and restores the clean one.

    The item holds ``view_1`` (the crop that the network sees) and ``target`` (the clean crop), (C, h, w[, d]) each and
    normalized, and ``mask`` (N,), True for hidden cells.

    Args:
        keys: key of the image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        image_size: side of the view in pixels, one number or one per axis.
        cell_size: side of a cell in pixels; a cell is hidden or visible as a whole.
        mask_ratio: share of hidden cells; their number is rounded.
        area: smallest and largest share of the image in the view.
        flip_prob: probability of a flip from left to right.
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.
        distorter: distortion of the view; none by default.
        mode: interpolation, "bilinear" or "bicubic".

    Raises:
        ValueError: if a probability is outside [0, 1], a share is outside (0, 1], or the cells do not tile the view;
            when called, if the ratio hides no cell or all of them.

    >>> views = RandMaskedViewsd(image_size=32, cell_size=8).set_random_state(0)
    >>> sample = views({"image": np.zeros((1, 80, 64), np.uint8)})
    >>> tuple(sample["view_1"].shape), int(sample["mask"].sum())
    ((1, 32, 32), 10)
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        image_size: int | Sequence[int] = 192,
        cell_size: int | Sequence[int] = 32,
        *,
        mask_ratio: float = 0.6,
        area: tuple[float, float] = (0.67, 1.0),
        flip_prob: float = 0.0,
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
        distorter: RandDistort | RandCutSwap | None = None,
        mode: Literal["bilinear", "bicubic"] = "bilinear",
    ) -> None:
        super().__init__(keys, mean, std)
        check_prob(flip_prob=flip_prob)
        check_area("area", area)
        if not 0 < mask_ratio < 1:
            raise ValueError(f"mask_ratio must be in (0, 1), got {mask_ratio}; it is the share of cells to restore")
        sides, cell = np.asarray(image_size), np.asarray(cell_size)
        if (sides < cell).any() or (sides % cell).any():
            nearest = (np.maximum(1, np.rint(sides / cell)) * cell).astype(int).tolist()
            raise ValueError(
                f"image_size must be a multiple of cell_size, got image_size={image_size} and cell_size={cell_size}; "
                f"nearest is {nearest}"
            )
        self.image_size = image_size
        self.cell_size = cell_size
        self.mask_ratio = mask_ratio
        self.area = (area[0], area[1])
        self.flip_prob = flip_prob
        self.distorter = distorter
        self.mode: Literal["bilinear", "bicubic"] = mode
        self.draw = ViewDraw(np.zeros((2, 0), np.int64))
        self.mask = torch.zeros(0, dtype=torch.bool)

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for an image of spatial shape ``data`` into ``draw`` and ``mask``."""
        box = draw_resized_crop_box(self.R, data, self.area)
        shape = per_axis(self.image_size, len(data), "image_size")
        self.draw = ViewDraw(
            box,
            flipped=bool(self.R.random_sample() < self.flip_prob),
            distortion=Distortion() if self.distorter is None else self.distorter.draw(self.R, shape),
        )
        cell = per_axis(self.cell_size, len(data), "cell_size")
        self.mask = self.draw_mask([side // c for side, c in zip(shape, cell, strict=True)])

    def draw_mask(self, grid_size: Sequence[int]) -> Tensor:
        """Draw the mask of a grid from ``R``; all sets of that many cells are equally likely.

        Args:
            grid_size: cells per axis.

        Returns:
            The mask (N,), True for hidden cells.
        """
        return draw_random_mask(self.R, grid_size, self.mask_ratio)

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make ``view_1``, ``target`` and ``mask`` of one image."""
        self.randomize(tuple(pixels.shape[1:]))
        crop = cut_view(pixels, self.draw, self.image_size, self.mode)
        return {
            VIEW_1: self.normalize(alter_view(crop, self.draw)),
            TARGET: self.normalize(crop),
            MASK: self.mask,
        }
