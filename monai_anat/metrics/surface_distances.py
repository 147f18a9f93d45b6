"""Surface distances of masks: 95th percentile (Hausdorff) and mean, with a defined value for a missing structure."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric, do_metric_reduction
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

__all__ = ["SurfaceDistancesMetric", "surface_distance"]

Mask = NDArray[np.bool_]


def surface_distance(mask: Mask, truth: Mask, statistic: str = "hd95") -> float:
    """Measure how far the borders of two masks are apart, in pixels.

    Args:
        mask: predicted mask of one structure.
        truth: true mask, of the same shape.
        statistic: ``hd95``, the larger of the two directed 95th percentiles, or ``mean``, the mean over the pixels of
            both borders.

    Returns:
        The distance; NaN where the truth is empty; the image diagonal, the largest possible distance, where only the
        prediction is empty.

    Raises:
        ValueError: if the statistic is unknown.

    >>> one, other = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
    >>> one[4, 2] = other[4, 6] = True
    >>> surface_distance(one, other), surface_distance(np.zeros((3, 4), bool), np.ones((3, 4), bool))
    (4.0, 5.0)
    """
    if statistic not in ("hd95", "mean"):
        raise ValueError(f"statistic must be 'hd95' or 'mean', got {statistic!r}")
    if not truth.any():
        return math.nan
    if not mask.any():
        return math.hypot(*mask.shape)
    borders = [part & ~ndimage.binary_erosion(part) for part in (mask, truth)]
    there, back = (ndimage.distance_transform_edt(~goal)[border] for border, goal in (borders, reversed(borders)))
    if statistic == "mean":
        return float(np.concatenate([there, back]).mean())
    return float(max(np.percentile(there, 95), np.percentile(back, 95)))


class SurfaceDistancesMetric(CumulativeIterationMetric):
    """MONAI metric of :func:`surface_distance` for one-hot masks, without the background.

    MONAI's ``HausdorffDistanceMetric`` leaves images with a missing structure out of the mean, so that a prediction
    improves by omitting a structure. Here they count with the image diagonal.

    Args:
        statistic: ``hd95`` or ``mean``.

    >>> metric = SurfaceDistancesMetric()
    >>> one_hot = torch.zeros(1, 2, 3, 4)
    >>> one_hot[:, 1, 1, 1] = 1
    >>> _ = metric(one_hot, one_hot)
    >>> metric.aggregate().item()
    0.0
    """

    def __init__(self, statistic: str = "hd95") -> None:
        super().__init__()
        self.statistic = statistic

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> Tensor:
        """Distances (B, C - 1) of one-hot masks (B, C, H, W)."""
        if y is None or y.shape != y_pred.shape:
            raise ValueError(
                f"y must have the shape of y_pred, {tuple(y_pred.shape)}, got {y if y is None else y.shape}"
            )
        masks, truths = (np.asarray(part.detach().cpu()) > 0 for part in (y_pred[:, 1:], y[:, 1:]))
        values = [
            [surface_distance(mask, truth, self.statistic) for mask, truth in zip(*pair, strict=True)]
            for pair in zip(masks, truths, strict=True)
        ]
        return torch.tensor(values, dtype=torch.float32)

    def aggregate(self, reduction: str = "mean") -> Tensor:
        """Reduce the distances of all images; undefined ones are left out.

        Args:
            reduction: as of MONAI's metrics.
        """
        data = self.get_buffer()  # type: ignore[no-untyped-call]
        if not isinstance(data, Tensor):
            raise ValueError("aggregate needs at least one image; call the metric first")
        reduced: Tensor = do_metric_reduction(data, reduction)[0]
        return reduced
