"""The distortions on dictionaries: one draw for all keys of a sample."""

from __future__ import annotations

from collections.abc import Sequence

from monai.config import KeysCollection

from monai_anat.transforms.distortions import (
    RandBezierIntensity,
    RandCutSwap,
    RandDistort,
    RandDistortOne,
    RandInPaint,
    RandLocalPixelShuffle,
    RandOutPaint,
)
from monai_anat.transforms.shared_draw import RandSharedDrawd

__all__ = [
    "RandBezierIntensityd",
    "RandCutSwapd",
    "RandDistortOned",
    "RandDistortd",
    "RandInPaintd",
    "RandLocalPixelShuffled",
    "RandOutPaintd",
]


class RandLocalPixelShuffled(RandSharedDrawd):
    """Dictionary form of :class:`RandLocalPixelShuffle`.

    Args:
        keys: images (C, H, W[, D]) of the same spatial shape.
        prob: share of samples that are shuffled.
        num_blocks: number of windows.
        max_side: largest side of a window, as a fraction of the image side; at least one pixel.
        allow_missing_keys: do nothing for keys that are not there.

    >>> import numpy as np
    >>> RandLocalPixelShuffled("image")({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        num_blocks: int = 40,
        max_side: float = 0.1,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandLocalPixelShuffle(prob, num_blocks, max_side), allow_missing_keys)


class RandBezierIntensityd(RandSharedDrawd):
    """Dictionary form of :class:`RandBezierIntensity`.

    Args:
        keys: images (C, H, W[, D]) of the same spatial shape.
        prob: share of samples that are mapped.
        invert_prob: share of those whose contrast is inverted.
        allow_missing_keys: do nothing for keys that are not there.

    >>> import numpy as np
    >>> RandBezierIntensityd("image")({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    def __init__(
        self, keys: KeysCollection, prob: float = 0.9, invert_prob: float = 0.5, allow_missing_keys: bool = False
    ) -> None:
        super().__init__(keys, RandBezierIntensity(prob, invert_prob), allow_missing_keys)


class RandInPaintd(RandSharedDrawd):
    """Dictionary form of :class:`RandInPaint`.

    Args:
        keys: images (C, H, W[, D]) of the same spatial shape.
        prob: share of samples that are painted.
        max_boxes: largest number of boxes.
        next_prob: probability with which each box is reached, given the one before.
        sides: range of their sides as fractions of the image side.
        allow_missing_keys: do nothing for keys that are not there.

    >>> import numpy as np
    >>> RandInPaintd("image")({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.9,
        max_boxes: int = 5,
        next_prob: float = 0.95,
        sides: tuple[float, float] = (1 / 6, 1 / 3),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandInPaint(prob, max_boxes, next_prob, sides), allow_missing_keys)


class RandOutPaintd(RandSharedDrawd):
    """Dictionary form of :class:`RandOutPaint`.

    Args:
        keys: images (C, H, W[, D]) of the same spatial shape.
        prob: share of samples that are painted.
        max_boxes: largest number of boxes; there is always one.
        next_prob: probability with which each further box is reached, given the one before.
        removed: range of what a box lacks of the image side, as fractions of it.
        allow_missing_keys: do nothing for keys that are not there.

    >>> import numpy as np
    >>> RandOutPaintd("image")({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 0.9,
        max_boxes: int = 5,
        next_prob: float = 0.95,
        removed: tuple[float, float] = (3 / 7, 4 / 7),
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, RandOutPaint(prob, max_boxes, next_prob, removed), allow_missing_keys)


class RandDistortd(RandSharedDrawd):
    """Dictionary form of :class:`RandDistort`, the distortion chain of POPAR and PEAC.

    Args:
        keys: images (C, H, W[, D]) of the same spatial shape.
        prob: share of samples that are distorted at all.
        shuffle_prob: probability of the local pixel shuffle.
        bezier_prob: probability of the intensity map.
        invert_prob: share of the intensity maps that invert contrast.
        paint_prob: probability of painting.
        out_paint_prob: share of paintings that paint outside.
        num_blocks: windows of the local pixel shuffle.
        max_boxes: largest number of painted or kept boxes.
        next_prob: probability with which each further box is reached, given the one before.
        allow_missing_keys: do nothing for keys that are not there.

    >>> import numpy as np
    >>> RandDistortd("image")({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        shuffle_prob: float = 1.0,
        bezier_prob: float = 0.9,
        invert_prob: float = 0.5,
        paint_prob: float = 0.9,
        out_paint_prob: float = 0.8,
        num_blocks: int = 40,
        max_boxes: int = 5,
        next_prob: float = 0.95,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandDistort(
            prob,
            shuffle_prob,
            bezier_prob,
            invert_prob,
            paint_prob,
            out_paint_prob,
            num_blocks,
            max_boxes,
            next_prob,
        )
        super().__init__(keys, transform, allow_missing_keys)


class RandDistortOned(RandSharedDrawd):
    """Dictionary form of :class:`RandDistortOne`: exactly one of four distortions.

    Args:
        keys: images (C, H, W[, D]) of the same spatial shape.
        prob: share of samples that are distorted at all.
        weights: how often shuffle, intensity map, in-painting and out-painting come, relative to each other.
        num_blocks: windows of the local pixel shuffle.
        max_boxes: largest number of painted or kept boxes.
        next_prob: probability with which each further box is reached, given the one before.
        invert_prob: share of the intensity maps that invert contrast.
        allow_missing_keys: do nothing for keys that are not there.

    >>> import numpy as np
    >>> RandDistortOned("image")({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        num_blocks: int = 5,
        max_boxes: int = 1,
        next_prob: float = 1.0,
        invert_prob: float = 0.5,
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandDistortOne(prob, weights, num_blocks, max_boxes, next_prob, invert_prob)
        super().__init__(keys, transform, allow_missing_keys)


class RandCutSwapd(RandSharedDrawd):
    """Dictionary form of :class:`RandCutSwap`, the distortions of DiRA.

    Args:
        keys: images (C, H, W[, D]) of the same spatial shape.
        prob: share of samples that are distorted at all.
        cut_prob: probability of the inner cut-out.
        keep_prob: probability of the outer cut-out.
        swap_prob: probability of the block swap.
        max_boxes: largest number of boxes that are cut or kept.
        next_prob: probability with which each further box is reached, given the one before.
        cut_sides: range of the sides of cut boxes, as fractions of the image side.
        removed: range of what a kept box lacks of the image side.
        num_swaps: number of pairs.
        swap_sides: range of their sides.
        allow_missing_keys: do nothing for keys that are not there.

    >>> import numpy as np
    >>> RandCutSwapd("image")({"image": np.zeros((1, 32, 32), np.uint8)})["image"].shape
    (1, 32, 32)
    """

    def __init__(
        self,
        keys: KeysCollection,
        prob: float = 1.0,
        cut_prob: float = 0.30,
        keep_prob: float = 0.05,
        swap_prob: float = 0.30,
        max_boxes: int = 10,
        next_prob: float = 0.9,
        cut_sides: tuple[float, float] = (10 / 224, 70 / 224),
        removed: tuple[float, float] = (50 / 224, 70 / 224),
        num_swaps: int = 10,
        swap_sides: tuple[float, float] = (10 / 224, 15 / 224),
        allow_missing_keys: bool = False,
    ) -> None:
        transform = RandCutSwap(
            prob,
            cut_prob,
            keep_prob,
            swap_prob,
            max_boxes,
            next_prob,
            cut_sides,
            removed,
            num_swaps,
            swap_sides,
        )
        super().__init__(keys, transform, allow_missing_keys)
