"""Cut-out and block swapping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.config import NdarrayOrTensor

from monai_anat.transforms.array_kinds import plain_tensor, same_kind
from monai_anat.transforms.draws import draw_boxes
from monai_anat.transforms.geometry import box_slices

__all__ = ["CutDraw", "SwapDraw", "cut_out", "draw_swaps", "swap_boxes"]


@dataclass(frozen=True, eq=False)
class CutDraw:
    """One draw of a cut-out: ``boxes`` (n, 2, d), and whether the pixels outside them are removed instead."""

    boxes: npt.NDArray[np.int64]
    outside: bool


@dataclass(frozen=True, eq=False)
class SwapDraw:
    """One draw of a swap: ``pairs`` (n, 2, 2, d) of boxes with equal sides that do not overlap."""

    pairs: npt.NDArray[np.int64]


def cut_out(img: NdarrayOrTensor, boxes: npt.NDArray[np.int64], outside: bool = False) -> NdarrayOrTensor:
    """Set the pixels inside or outside boxes to 0: the inner and outer cut-out of DiRA (arXiv:2204.10437).

    Args:
        img: (..., H, W[, D]) of any type.
        boxes: (n, 2, d), first corner and sides of each box in pixels.
        outside: keep the boxes and remove the rest.

    Returns:
        The image, of the same kind, type and shape.

    >>> cut_out(np.ones((1, 2, 3)), np.array([[[0, 0], [2, 2]]])).tolist()
    [[[0.0, 0.0, 1.0], [0.0, 0.0, 1.0]]]
    """
    pixels = plain_tensor(img)
    cut = torch.zeros_like(pixels) if outside else pixels.clone()
    for box in boxes:
        window = box_slices(box)
        cut[window] = pixels[window] if outside else 0
    return same_kind(cut, img)


def swap_boxes(img: NdarrayOrTensor, pairs: npt.NDArray[np.int64]) -> NdarrayOrTensor:
    """Swap the content of pairs of boxes, one pair after the other: the block swap of DiRA (arXiv:2204.10437).

    Args:
        img: (..., H, W[, D]) of any type.
        pairs: (n, 2, 2, d), first corner and sides of the two boxes of each pair, which must not overlap.

    Returns:
        The image, of the same kind, type and shape, with the same intensities at other positions.

    >>> swap_boxes(np.array([[[1, 2, 3]]]), np.array([[[[0, 0], [1, 1]], [[0, 2], [1, 1]]]])).tolist()
    [[[3, 2, 1]]]
    """
    swapped = plain_tensor(img).clone()
    for first, second in pairs:
        here, there = box_slices(first), box_slices(second)
        content = swapped[here].clone()
        swapped[here] = swapped[there]
        swapped[there] = content
    return same_kind(swapped, img)


def draw_swaps(
    R: np.random.RandomState, spatial_shape: Sequence[int], sides: npt.NDArray[np.int64], tries: int = 8
) -> npt.NDArray[np.int64]:
    """Draw pairs of boxes uniformly over all positions in which the two do not overlap.

    Args:
        R: random generator.
        spatial_shape: shape of the image without channels, d axes.
        sides: (n, d), sides of both boxes of each pair in pixels.
        tries: number of attempts per pair; a pair that always overlaps is dropped.

    Returns:
        (m, 2, 2, d) with m at most n: first corner and sides of each box of each pair.

    >>> draw_swaps(np.random.RandomState(0), (8, 8), np.array([[8, 8]])).shape
    (0, 2, 2, 2)
    """
    count, dims = sides.shape
    many = np.repeat(sides, tries, axis=0)
    drawn = np.stack([draw_boxes(R, spatial_shape, many), draw_boxes(R, spatial_shape, many)], axis=1)
    drawn = drawn.reshape(count, tries, 2, 2, dims)  # (n, tries, box, corner or sides, d)
    apart = (np.abs(drawn[:, :, 0, 0] - drawn[:, :, 1, 0]) >= drawn[:, :, 0, 1]).any(-1)  # (n, tries)
    chosen = drawn[np.arange(count), apart.argmax(1)]
    pairs: npt.NDArray[np.int64] = chosen[apart.any(1)]
    return pairs
