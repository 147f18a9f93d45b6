"""Dictionary forms of the distortions."""

from __future__ import annotations

from monai_anat.transforms.distortions import (
    RandBezierIntensity,
    RandCutSwap,
    RandDistort,
    RandDistortOne,
    RandInPaint,
    RandLocalPixelShuffle,
    RandOutPaint,
)
from monai_anat.transforms.shared_draw import RandDictionaryForm

__all__ = [
    "RandBezierIntensityd",
    "RandCutSwapd",
    "RandDistortOned",
    "RandDistortd",
    "RandInPaintd",
    "RandLocalPixelShuffled",
    "RandOutPaintd",
]


class RandLocalPixelShuffled(RandDictionaryForm):
    """Dictionary form of :class:`RandLocalPixelShuffle`.

    >>> import numpy as np
    >>> RandLocalPixelShuffled("image", num_blocks=4)({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    array_transform = RandLocalPixelShuffle


class RandBezierIntensityd(RandDictionaryForm):
    """Dictionary form of :class:`RandBezierIntensity`.

    >>> import numpy as np
    >>> RandBezierIntensityd("image", prob=0.5)({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    array_transform = RandBezierIntensity


class RandInPaintd(RandDictionaryForm):
    """Dictionary form of :class:`RandInPaint`.

    >>> import numpy as np
    >>> RandInPaintd("image", max_boxes=2)({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    array_transform = RandInPaint


class RandOutPaintd(RandDictionaryForm):
    """Dictionary form of :class:`RandOutPaint`.

    >>> import numpy as np
    >>> RandOutPaintd("image", max_boxes=2)({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    array_transform = RandOutPaint


class RandDistortd(RandDictionaryForm):
    """Dictionary form of :class:`RandDistort`, the distortion chain of POPAR and PEAC.

    >>> import numpy as np
    >>> RandDistortd("image", bezier_prob=0.5)({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    array_transform = RandDistort


class RandDistortOned(RandDictionaryForm):
    """Dictionary form of :class:`RandDistortOne`, which applies exactly one of four distortions.

    >>> import numpy as np
    >>> RandDistortOned("image")({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    array_transform = RandDistortOne


class RandCutSwapd(RandDictionaryForm):
    """Dictionary form of :class:`RandCutSwap`, the distortions of DiRA.

    >>> import numpy as np
    >>> RandCutSwapd("image", cut_prob=0.5)({"image": np.zeros((1, 32, 32), np.uint8)})["image"].shape
    (1, 32, 32)
    """

    array_transform = RandCutSwap
