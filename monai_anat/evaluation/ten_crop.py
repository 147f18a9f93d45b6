"""One prediction per image from several crops of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from monai.inferers import Inferer
from torch import Tensor

from monai_anat.transforms.ten_crop import ten_crops

__all__ = ["TenCropInferer", "average_crops"]

AVERAGES = ("prob", "logit")


def average_crops(logits: Tensor, average: str = "prob", exclusive: bool = False) -> Tensor:
    """Logits whose sigmoid (softmax for exclusive classes) is the prediction of all crops together.

    Args:
        logits: (crops, B, C).
        average: ``"prob"``, the mean of the crops' probabilities, or ``"logit"``, the mean of their logits.
        exclusive: whether probabilities are a softmax over the classes instead of a sigmoid of each.

    Returns:
        (B, C).

    Raises:
        ValueError: for another average.

    >>> logits = torch.tensor([[[0.0]], [[4.0]]])
    >>> average_crops(logits).sigmoid().item(), average_crops(logits, "logit").item()
    (0.7410069108009338, 2.0)
    """
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
    if average == "logit":
        return logits.mean(0)
    share = math.log(len(logits))
    if exclusive:
        return logits.log_softmax(2).logsumexp(0) - share
    # log of the mean probability of yes, minus that of no: no crop saturates
    return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)


class TenCropInferer(Inferer):
    """Send ten crops of an image through a classifier and average them.

    The protocol of POPAR, Adam and Adam-v2 averages probabilities; the published test script of PEAC, ACE and Lamps
    averages logits.

    Args:
        size: side of a crop in pixels.
        average: ``"prob"`` or ``"logit"``, see :func:`average_crops`.
        exclusive: see :func:`average_crops`.
        corners: False takes the center alone.
        mirror: False leaves the mirror images out.

    >>> inferer = TenCropInferer(2)
    >>> inferer(torch.ones(1, 1, 3, 3), lambda image: image.sum((2, 3))).item()
    4.0
    """

    def __init__(
        self,
        size: int | Sequence[int],
        average: str = "prob",
        exclusive: bool = False,
        corners: bool = True,
        mirror: bool = True,
    ) -> None:
        super().__init__()
        if average not in AVERAGES:
            raise ValueError(f"average must be one of {', '.join(AVERAGES)}, got {average!r}")
        self.size, self.average, self.exclusive = size, average, exclusive
        self.corners, self.mirror = corners, mirror

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        """Logits (B, C) of images (B, channels, H, W), one crop of all images at a time."""
        crops = ten_crops(inputs, self.size, corners=self.corners, mirror=self.mirror)
        logits = torch.stack([network(crop, *args, **kwargs).float() for crop in crops])  # (crops, B, C)
        return average_crops(logits, self.average, self.exclusive)
