"""Random resized crops."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, prod
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from monai.config import NdarrayOrTensor
from monai.transforms import Randomizable, Transform
from torch import Tensor

from monai_anat.precision import at_least_float32
from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, same_kind, unit_range
from monai_anat.transforms.crop_inverse import RandBoxCropd
from monai_anat.transforms.geometry import box_slices, per_axis

__all__ = ["RandResizedCrop", "RandResizedCropd", "draw_resized_crop_box", "resized_crop"]

#: number of attempts before the central crop is used, as in Inception
_ATTEMPTS = 10

Mode = Literal["bilinear", "bicubic"]


def draw_resized_crop_box(
    R: np.random.RandomState,
    spatial_shape: Sequence[int],
    area: tuple[float, float] = (0.2, 1.0),
    ratio: tuple[float, float] = (3 / 4, 4 / 3),
) -> npt.NDArray[np.int64]:
    """Draw a box with a random area and aspect ratio at a uniform position.

    This is the crop of Inception (Szegedy et al., CVPR 2015), section 6. The area is uniform and the aspect ratio is
    uniform in its logarithm. If none of ten attempts fits, the largest central box with an allowed ratio is used.

    Args:
        R: random generator.
        spatial_shape: shape of the image without channels, d axes.
        area: smallest and largest share of the pixels or voxels.
        ratio: smallest and largest ratio of width (and depth) to height.

    Returns:
        (2, d): first corner and sides in pixels.

    Raises:
        ValueError: for shares outside (0, 1] or ratios that are not positive.

    >>> draw_resized_crop_box(np.random.RandomState(0), (64, 64), area=(1.0, 1.0), ratio=(1.0, 1.0)).tolist()
    [[0, 0], [64, 64]]
    """
    if not 0 < area[0] <= area[1] <= 1 or not 0 < ratio[0] <= ratio[1]:
        raise ValueError(
            f"area must be two shares in (0, 1] and ratio two positive numbers, smaller first, got {area} and {ratio}"
        )
    shape = np.asarray(spatial_shape, dtype=np.int64)
    dims = len(shape)
    share, log_ratio = R.uniform(*area, _ATTEMPTS), R.uniform(log(ratio[0]), log(ratio[1]), (_ATTEMPTS, dims - 1))
    stretch = np.concatenate([np.zeros((_ATTEMPTS, 1)), log_ratio], axis=1)
    stretch -= stretch.mean(1, keepdims=True)  # keeps the area
    sides = np.rint((share * prod(spatial_shape))[:, None] ** (1 / dims) * np.exp(stretch)).astype(np.int64)  # (10, d)
    fits = ((sides >= 1) & (sides <= shape)).all(1)
    if not fits.any():
        first = min(shape[0], shape[1:].min() / ratio[0])
        side = np.minimum(shape, np.maximum(1, np.rint(first * np.array([1, *[ratio[1]] * (dims - 1)])))).astype(
            np.int64
        )
        return np.stack([(shape - side) // 2, side])
    side = sides[int(np.argmax(fits))]
    return np.stack([R.randint(0, shape - side + 1).astype(np.int64), side])


def resized_crop(
    pixels: Tensor, box: npt.NDArray[np.int64], size: int | Sequence[int], mode: Mode = "bilinear"
) -> Tensor:
    """Crop a box and resample it with anti-aliasing.

    Args:
        pixels: (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        box: (2, d), first corner and sides in pixels.
        size: size of the result in pixels, one number or one per axis.
        mode: "bilinear" (linear along each axis, also in 3D) or "bicubic".

    Returns:
        (C, h, w[, d]) in [0, 1]; float32 for integers, else the type of the input.

    Raises:
        ValueError: if the box does not lie inside the image.

    >>> import torch
    >>> image = torch.arange(16.0).reshape(1, 4, 4) / 16
    >>> resized_crop(image, np.array([[1, 1], [2, 2]]), size=2)
    tensor([[[0.3125, 0.3750],
             [0.5625, 0.6250]]])
    """
    dims = pixels.ndim - 1
    shape = np.asarray(pixels.shape[1:])
    if box.shape != (2, dims) or (box[0] < 0).any() or (box[1] < 1).any() or (box.sum(0) > shape).any():
        raise ValueError(
            f"box must be (corner, sides) inside the image {tuple(pixels.shape[1:])}, got {box.tolist()}; "
            "draw_resized_crop_box makes one"
        )
    target = per_axis(size, dims, "size")
    gray = unit_range(pixels[box_slices(box)])
    crop = at_least_float32(gray)  # torch cannot resample half precision on a CPU
    if dims == 2:
        out = _resample(crop[:, None], target, mode)[:, 0]
    else:  # interpolation is separable: two axes first, then the third
        rows = _resample(crop.permute(0, 3, 1, 2), target[:2], mode).flatten(2)  # (C, D, h * w)
        out = _resample(rows[:, None], (target[2], rows.shape[2]), mode)[:, 0]  # (C, d, h * w)
        out = out.unflatten(2, target[:2]).movedim(1, -1).contiguous()
    return (out.clamp_(0.0, 1.0) if mode == "bicubic" else out).to(gray.dtype)  # bicubic interpolation overshoots


def _resample(images: Tensor, size: Sequence[int], mode: str) -> Tensor:
    return F.interpolate(images, tuple(size), mode=mode, align_corners=False, antialias=True)


class RandResizedCrop(Randomizable, Transform):
    """Crop a random box and resample it to a fixed size; see :func:`draw_resized_crop_box` and :func:`resized_crop`.

    Args:
        size: size of the result in pixels, one number or one per axis.
        area: smallest and largest share of the image.
        ratio: smallest and largest ratio of width to height.
        mode: "bilinear" or "bicubic".

    >>> RandResizedCrop(8).set_random_state(0)(np.zeros((1, 32, 24), np.uint8)).shape
    (1, 8, 8)
    """

    backend = BACKENDS

    def __init__(
        self,
        size: int | Sequence[int],
        area: tuple[float, float] = (0.2, 1.0),
        ratio: tuple[float, float] = (3 / 4, 4 / 3),
        mode: Mode = "bilinear",
    ) -> None:
        self.size = size
        self.area = area
        self.ratio = ratio
        self.mode: Mode = mode
        self.box: npt.NDArray[np.int64] = np.zeros((2, 0), np.int64)

    def randomize(self, data: Sequence[int]) -> None:
        """Draw a box for an image of spatial shape ``data``; the draw is stored as ``box``."""
        self.box = draw_resized_crop_box(self.R, data, self.area, self.ratio)

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Crop and resample one image (C, H, W[, D]); with ``randomize=False``, repeat the last draw."""
        if randomize:
            self.randomize(tuple(img.shape[1:]))
        result = resized_crop(plain_tensor(img), self.box, self.size, self.mode)
        scale = self.box[1] / result.shape[1:]
        # the center of the first pixel of the result lies half a step inside the box
        index_map = np.column_stack([np.diag(scale), self.box[0] + (scale - 1) / 2])
        return same_kind(result, img, index_map)


class RandResizedCropd(RandBoxCropd):
    """Dictionary form of :class:`RandResizedCrop`. The inverse pastes the crop back to its position.

    >>> RandResizedCropd("image", 8)({"image": np.zeros((1, 32, 24), np.uint8)})["image"].shape
    (1, 8, 8)
    """

    array_transform = RandResizedCrop
