"""Dice and Hausdorff distance of each image and structure; undefined where the truth has none of the structure."""

from __future__ import annotations

import math

import numpy as np
import torch
from monai.metrics import compute_dice
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dice_by_structure", "hd95_by_structure", "structure_masks"]

Floats = NDArray[np.float64]


def structure_masks(labels: Tensor, classes: int, *, overlapping: bool = False) -> Tensor:
    """One mask per structure, without the background.

    Args:
        labels: (N, H, W) class numbers, or, where structures overlap, sums of 1, 2, 4, ... for the first, second, ...
        classes: classes with the background.
        overlapping: read bits.

    Returns:
        (N, classes - 1, H, W) of 0 and 1.

    >>> structure_masks(torch.tensor([[[0, 3]]]), 3, overlapping=True)[0, :, 0].tolist()
    [[0, 1], [0, 1]]
    """
    if overlapping:
        bits = 2 ** torch.arange(classes - 1, device=labels.device)
        return (labels.long()[:, None] & bits[:, None, None]).ne(0).long()
    return F.one_hot(labels.long(), classes).movedim(-1, 1)[:, 1:]


def dice_by_structure(masks: Tensor, truth: Tensor) -> Floats:
    """Dice, (N, C), of masks (N, C, H, W); NaN where the truth is empty.

    >>> dice_by_structure(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).tolist()
    [[1.0]]
    """
    scores: Tensor = compute_dice(masks, truth, include_background=True)
    return scores.numpy().astype(np.float64)


def hd95_by_structure(masks: Tensor, truth: Tensor, spacings: Floats | None = None) -> Floats:
    """95th percentile of the symmetric surface distance, (N, C), of masks (N, C, H, W).

    NaN where the truth is empty; the image diagonal where only the prediction is.

    Args:
        masks: of 0 and 1.
        truth: of 0 and 1.
        spacings: (N, 2) height and width of each image's pixels, the unit of the distance; pixels by default. NaN gives
            NaN.

    >>> mask, truth = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    >>> mask[..., 4, 2] = truth[..., 4, 6] = 1
    >>> hd95_by_structure(mask, truth).tolist()
    [[4.0]]
    """
    distances = np.full(masks.shape[:2], np.nan)
    units = np.ones((len(masks), 2)) if spacings is None else spacings
    for image, structure in np.ndindex(*distances.shape):
        if np.isnan(units[image]).any():
            continue
        mask, other = (part[image, structure].bool().numpy() for part in (masks, truth))
        if other.any() and mask.any():
            distances[image, structure] = max(_hd95(mask, other, units[image]), _hd95(other, mask, units[image]))
        elif other.any():
            distances[image, structure] = math.hypot(*units[image] * masks.shape[2:])
    return distances


def _hd95(mask: NDArray[np.bool_], other: NDArray[np.bool_], spacing: Floats) -> float:
    """95th percentile of the distances from the border of one mask to that of another.

    MONAI 1.6's ``compute_hausdorff_distance`` gives the same, and a deprecation warning of its own at every call.
    """
    border, goal = (part & ~ndimage.binary_erosion(part) for part in (mask, other))
    return float(np.percentile(ndimage.distance_transform_edt(~goal, sampling=spacing)[border], 95))
