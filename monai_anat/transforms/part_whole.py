"""Boxes of concentric crops and of parts that tile an image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from monai_anat.transforms.geometry import per_axis

__all__ = ["draw_concentric_boxes", "part_boxes"]


def draw_concentric_boxes(
    R: np.random.RandomState,
    spatial_shape: Sequence[int],
    areas: Sequence[Sequence[float]],
    ratios: Sequence[Sequence[float]],
) -> npt.NDArray[np.int64]:
    """Draw boxes around the center of an image, each with an area from its own range.

    These are the crops of Adam-v2 (Hosseinzadeh Taher et al., CVPR 2024, arXiv:2404.15672), section 3. The area is
    uniform in its range. The ratio of width to height is uniform in its logarithm over the ratios at which the box
    fits, so the area does not depend on the shape of the image.

    Args:
        R: random generator.
        spatial_shape: (height, width) in pixels.
        areas: smallest and largest share of the pixels for each of n boxes.
        ratios: smallest and largest ratio of width to height for each box. If none of them fits, the nearest ratio that
            fits is used.

    Returns:
        (n, 2, 2): first corner and sides of each box in pixels. All centers agree to half a pixel.

    Raises:
        ValueError: if the image is not 2D, the numbers of areas and ratios differ, a share is outside (0, 1], or a
            ratio is not positive.

    >>> draw_concentric_boxes(np.random.RandomState(0), (8, 8), [(0.25, 0.25)], [(1.0, 1.0)]).tolist()
    [[[2, 2], [4, 4]]]
    """
    share, ratio = np.asarray(areas, dtype=np.float64), np.asarray(ratios, dtype=np.float64)
    if len(spatial_shape) != 2:
        raise ValueError(f"concentric boxes are cut from 2D images, got spatial_shape={tuple(spatial_shape)}")
    ordered = all(band.ndim == 2 and band.shape[1] == 2 and (band[:, 0] <= band[:, 1]).all() for band in (share, ratio))
    if not ordered or len(share) != len(ratio) or (share <= 0).any() or (share > 1).any() or (ratio <= 0).any():
        raise ValueError(
            "areas and ratios must be as many pairs (smallest, largest) as boxes, shares in (0, 1] and positive "
            f"ratios, got areas={areas} and ratios={ratios}"
        )
    height, width = spatial_shape
    pixels = R.uniform(share[:, 0], share[:, 1]) * height * width  # (n,)
    # the box is sqrt(pixels * ratio) wide and sqrt(pixels / ratio) high
    fitting = np.stack([pixels / height**2, width**2 / pixels], 1)  # (n, 2)
    low, high = np.log(np.clip(ratio, fitting[:, :1], fitting[:, 1:])).T
    stretch = np.exp(R.uniform(low, high) / 2)
    sides = np.stack([np.sqrt(pixels) / stretch, np.sqrt(pixels) * stretch], 1)
    shape = np.asarray(spatial_shape)
    whole_sides = np.clip(np.rint(sides), 1, shape).astype(np.int64)
    return np.stack([(shape - whole_sides) // 2, whole_sides], 1)


def part_boxes(spatial_shape: Sequence[int], parts_per_side: int | Sequence[int] = 2) -> npt.NDArray[np.int64]:
    """Divide an image into parts that tile it, row by row. Their sides differ by at most one pixel.

    Args:
        spatial_shape: shape of the image without channels, d axes.
        parts_per_side: number of parts per axis, one number or one per axis.

    Returns:
        (P, 2, d): first corner and sides of each part in pixels. For 2 x 2 parts the order is top left, top right,
        bottom left, bottom right.

    Raises:
        ValueError: if there are fewer pixels than parts along an axis.

    >>> part_boxes((4, 5)).tolist()
    [[[0, 0], [2, 2]], [[0, 2], [2, 3]], [[2, 0], [2, 2]], [[2, 2], [2, 3]]]
    """
    counts = per_axis(parts_per_side, len(spatial_shape), "parts_per_side")
    if any(side < count for side, count in zip(spatial_shape, counts, strict=True)):
        raise ValueError(
            f"an image must have a pixel for each part along every axis, got {tuple(spatial_shape)} pixels for "
            f"parts_per_side={parts_per_side}; take a larger image or fewer parts"
        )
    edges = [np.arange(count + 1) * side // count for side, count in zip(spatial_shape, counts, strict=True)]
    first = np.stack(np.meshgrid(*[edge[:-1] for edge in edges], indexing="ij"), -1).reshape(-1, len(counts))
    last = np.stack(np.meshgrid(*[edge[1:] for edge in edges], indexing="ij"), -1).reshape(-1, len(counts))
    return np.stack([first, last - first], 1)
