"""Dice and Hausdorff distance by image and structure."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from monai.metrics import compute_dice, compute_hausdorff_distance
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["dice_by_structure", "hd95_by_structure", "structure_masks"]

Floats = NDArray[np.float64]


def structure_masks(labels: Tensor, classes: int, *, overlapping: bool = False) -> Tensor:
    """Split labels into one mask per structure, without the background.

    Args:
        labels: (N, H, W) class numbers; for overlapping structures sums of 1 (first structure), 2, 4, ...
        classes: number of classes, including the background.
        overlapping: whether labels are such sums.

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
    """Compute the Dice coefficient (N, C) of masks (N, C, H, W). It is NaN if the ground truth is empty.

    >>> dice_by_structure(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).tolist()
    [[1.0]]
    """
    scores: Tensor = compute_dice(masks, truth, include_background=True)
    return scores.numpy().astype(np.float64)


def hd95_by_structure(masks: Tensor, truth: Tensor, spacings: Floats | None = None) -> Floats:
    """Compute the 95th percentile Hausdorff distance (N, C) of masks (N, C, H, W), by MONAI.

    It is NaN if the ground truth is empty. A structure that is missing in the prediction gets the image diagonal.

    Args:
        masks: predictions of 0 and 1.
        truth: ground truth of 0 and 1.
        spacings: (N, 2) height and width of the pixels of each image, which determine the unit; pixels by default. NaN
            gives NaN.

    >>> mask, truth = torch.zeros(1, 1, 9, 9), torch.zeros(1, 1, 9, 9)
    >>> mask[..., 4, 2] = truth[..., 4, 6] = 1
    >>> hd95_by_structure(mask, truth).tolist()
    [[4.0]]
    """
    distances = np.full(masks.shape[:2], np.nan)
    units = np.ones((len(masks), 2)) if spacings is None else spacings
    for image, unit in enumerate(units):
        if np.isnan(unit).any():
            continue
        with warnings.catch_warnings():  # MONAI warns of empty masks, and of its own deprecated argument
            warnings.simplefilter("ignore")
            found = compute_hausdorff_distance(
                masks[[image]], truth[[image]], include_background=True, percentile=95, spacing=unit.tolist()
            )[0]
        shown = truth[image].flatten(1).any(dim=1).numpy()
        missing = ~masks[image].flatten(1).any(dim=1).numpy()
        diagonal = math.hypot(*unit * masks.shape[2:])
        distances[image] = np.where(shown, np.where(missing, diagonal, found.double().numpy()), np.nan)
    return distances
