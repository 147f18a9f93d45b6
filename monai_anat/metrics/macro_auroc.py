"""Macro-averaged AUROC metric for training loops."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.metrics import CumulativeIterationMetric
from torch import Tensor

from monai_anat.metrics.classification import area_under_roc

__all__ = ["MacroAUROCMetric"]

logger = logging.getLogger(__name__)


class MacroAUROCMetric(CumulativeIterationMetric):
    """Mean over classes of the one-versus-rest area under the ROC curve.

    Unknown (NaN) and smoothed labels are ignored individually. If all known labels of a class are equal, its area is
    undefined: the class is excluded from the mean and named once in the log. If no class has an area, the value is 0.5,
    as for random scores. ``get_buffer()`` returns the predictions and labels of all batches and processes.

    Args:
        class_names: names of the classes in the log; by default their numbers.

    >>> metric = MacroAUROCMetric(["Mass", "Hernia"])
    >>> _ = metric(torch.tensor([[0.9, 0.1], [0.2, 0.1]]), torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    >>> metric.aggregate().item()
    1.0
    """

    def __init__(self, class_names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.class_names = class_names
        self._told = False

    def _compute_tensor(self, y_pred: Tensor, y: Tensor | None = None, **kwargs: Any) -> tuple[Tensor, Tensor]:
        if y is None or y_pred.shape != y.shape or y_pred.ndim != 2:
            shapes = [None if part is None else tuple(part.shape) for part in (y_pred, y)]
            raise ValueError(f"y_pred and y must both be (B, C), got {shapes[0]} and {shapes[1]}")
        return y_pred.float(), y.float()

    def aggregate(self) -> Tensor:
        """Compute the mean area, float32."""
        buffer = self.get_buffer()  # type: ignore[no-untyped-call]
        if buffer is None:
            raise ValueError("there are no predictions yet; call the metric on predictions and labels first")
        scores, labels = (np.asarray(part.cpu(), dtype=np.float64) for part in buffer)
        areas, one_sided = [], []
        for index in range(labels.shape[1]):
            known = np.isin(labels[:, index], (0, 1))
            if len(np.unique(labels[known, index])) < 2:
                one_sided.append(str(index if self.class_names is None else self.class_names[index]))
            else:
                areas.append(area_under_roc(labels[known, index], scores[known, index])[0])
        if one_sided and not self._told:
            logger.warning(f"excluded from the mean AUROC, because all known labels are equal: {', '.join(one_sided)}")
            self._told = True
        return torch.tensor(float(np.mean(areas)) if areas else 0.5)
