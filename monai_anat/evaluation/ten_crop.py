"""Ten-crop inference of classifiers."""

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
    """Average the predictions of several crops.

    Args:
        logits: (crops, B, C).
        average: "prob" averages the probabilities of the crops, "logit" their logits.
        exclusive: use a softmax over the classes instead of a sigmoid per class.

    Returns:
        (B, C) logits. Their sigmoid, or softmax for exclusive classes, is the average prediction.

    Raises:
        ValueError: if ``average`` is unknown.

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
    # log of the mean probability of yes minus that of no, which is stable for saturated crops
    return F.logsigmoid(logits).logsumexp(0) - F.logsigmoid(-logits).logsumexp(0)


class TenCropInferer(Inferer):
    """Classify ten crops of an image and average the predictions.

    The evaluation protocol of POPAR, Adam and Adam-v2 averages probabilities; the published test script of PEAC, ACE
    and Lamps averages logits.

    Args:
        size: side of a crop in pixels.
        average: "prob" or "logit", see :func:`average_crops`.
        exclusive: see :func:`average_crops`.
        corners: if False, use the center crop alone.
        mirror: if False, omit the mirrored crops.

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
        """Compute logits (B, C) of images (B, channels, H, W), one crop of all images at a time."""
        crops = ten_crops(inputs, self.size, corners=self.corners, mirror=self.mirror)
        logits = torch.stack([network(crop, *args, **kwargs).float() for crop in crops])  # (crops, B, C)
        return average_crops(logits, self.average, self.exclusive)
