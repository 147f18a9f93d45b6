"""In-painting and out-painting with uniform noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.config import NdarrayOrTensor
from torch import Tensor

from monai_anat.transforms.array_kinds import plain_tensor, same_kind, unit_range
from monai_anat.transforms.bezier import require_unit_range
from monai_anat.transforms.draws import random_generator
from monai_anat.transforms.geometry import box_slices

__all__ = ["PaintDraw", "in_paint", "out_paint"]


@dataclass(frozen=True, eq=False)
class PaintDraw:
    """One draw of a painting: ``boxes`` (n, 2, d), whether the noise lies outside them, and the seed of the noise."""

    boxes: npt.NDArray[np.int64]
    outside: bool
    seed: int


def _gray_levels(img: NdarrayOrTensor) -> Tensor:
    pixels = plain_tensor(img)
    if pixels.is_floating_point():
        require_unit_range(pixels)
    return unit_range(pixels)


def in_paint(img: NdarrayOrTensor, boxes: npt.NDArray[np.int64], seed: int) -> NdarrayOrTensor:
    """Fill boxes with uniform noise: the "in-painting" of Models Genesis (arXiv:1908.06912).

    All channels get the same noise.

    Args:
        img: (..., H, W[, D]), uint8, uint16, or floating point in [0, 1].
        boxes: (n, 2, d), first corner and sides of the boxes to fill, in pixels.
        seed: random seed of the noise, which is generated on the device of the image.

    Returns:
        The painted image in [0, 1], of the same kind and shape; float32 for integers.

    Raises:
        ValueError: if a value is outside [0, 1].

    >>> out = in_paint(np.zeros((1, 4, 4), np.float32), np.array([[[1, 1], [2, 2]]]), seed=0)
    >>> int((out > 0).sum())
    4
    """
    painted = _gray_levels(img).clone()
    generator = random_generator(seed, painted)
    for box in boxes:
        window = painted[box_slices(box)]
        window.copy_(torch.rand(tuple(box[1]), generator=generator, device=painted.device))
    return same_kind(painted, img)


def out_paint(img: NdarrayOrTensor, boxes: npt.NDArray[np.int64], seed: int) -> NdarrayOrTensor:
    """Replace everything outside boxes by uniform noise: the "out-painting" of Models Genesis (arXiv:1908.06912).

    Args:
        img: (..., H, W[, D]), uint8, uint16, or floating point in [0, 1].
        boxes: (n, 2, d), first corner and sides of the boxes to keep, in pixels.
        seed: random seed of the noise, which is independent per channel and generated on the device of the image.

    Returns:
        The painted image in [0, 1], of the same kind and shape; float32 for integers.

    Raises:
        ValueError: if a value is outside [0, 1].

    >>> out = out_paint(np.ones((1, 4, 4), np.float32), np.array([[[1, 1], [2, 2]]]), seed=0)
    >>> int((out == 1).sum())
    4
    """
    pixels = _gray_levels(img)
    generator = random_generator(seed, pixels)
    canvas = torch.rand(pixels.shape, generator=generator, device=pixels.device).to(pixels.dtype)
    for box in boxes:
        window = box_slices(box)
        canvas[window] = pixels[window]
    return same_kind(canvas, img)
