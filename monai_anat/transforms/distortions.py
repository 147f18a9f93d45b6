"""Random distortions of appearance, alone and in the chain that POPAR and PEAC restore from.

What a transform draws is a small record, :class:`Distortion`; :func:`distort` applies a record and is pure, so a draw
can be kept and replayed. All draws come from the transform's own ``R``; bulk noise comes from a torch generator whose
seed is part of the record.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from monai.config import NdarrayOrTensor
from monai.transforms import RandomizableTransform

from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, same_kind, unit_range
from monai_anat.transforms.bezier import BezierDraw, apply_bezier
from monai_anat.transforms.cutting import CutDraw, SwapDraw, cut_out, draw_swaps, swap_boxes
from monai_anat.transforms.draws import check_prob, draw_boxes, draw_integers, draw_run_length, draw_seed
from monai_anat.transforms.local_shuffle import PixelShuffleDraw, local_pixel_shuffle
from monai_anat.transforms.painting import PaintDraw, in_paint, out_paint

__all__ = [
    "Distortion",
    "RandBezierIntensity",
    "RandCutSwap",
    "RandDistort",
    "RandDistortOne",
    "RandInPaint",
    "RandLocalPixelShuffle",
    "RandOutPaint",
    "distort",
]

#: distance in pixels that painted boxes keep from the edge of the image
_PAINT_MARGIN = 3


@dataclass(frozen=True)
class Distortion:
    """One draw of the distortions; what is None is not applied. They come in the order of the fields."""

    shuffle: PixelShuffleDraw | None = None
    bezier: BezierDraw | None = None
    paint: PaintDraw | None = None
    cut: CutDraw | None = None
    swap: SwapDraw | None = None


def distort(img: NdarrayOrTensor, distortion: Distortion) -> NdarrayOrTensor:
    """Apply one draw of distortions: local pixel shuffle, Bezier intensity map, painting, cut-out, swap.

    The first three are the chain of POPAR (PMC9728135) and PEAC (arXiv 2312.00335), made of the operations of Models
    Genesis (arXiv 1908.06912); the last two are DiRA's (arXiv 2204.10437). On uint8 images the map is a table of 256
    entries, because shuffling only moves gray levels.

    Args:
        img: (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        distortion: what is applied.

    Returns:
        The image in [0, 1], the same kind and shape; float32 for integers. An empty record changes no gray level.

    Raises:
        TypeError: for types whose full scale is not known.
        ValueError: for values outside [0, 1].

    >>> image = np.array([[[0, 51, 255]]], np.uint8)
    >>> distort(image, Distortion()).tolist() == (image / np.float32(255)).tolist()
    True
    """
    pixels: NdarrayOrTensor = plain_tensor(img)
    if distortion.shuffle is not None:
        pixels = local_pixel_shuffle(pixels, distortion.shuffle.boxes, distortion.shuffle.seed)
    if distortion.bezier is not None:
        pixels = apply_bezier(pixels, distortion.bezier.control_points, distortion.bezier.inverted)
    if distortion.paint is not None:
        paint = out_paint if distortion.paint.outside else in_paint
        pixels = paint(pixels, distortion.paint.boxes, distortion.paint.seed)
    if distortion.cut is not None:
        pixels = cut_out(pixels, distortion.cut.boxes, distortion.cut.outside)
    if distortion.swap is not None:
        pixels = swap_boxes(pixels, distortion.swap.pairs)
    return same_kind(unit_range(plain_tensor(pixels)), img)


def _sides(
    R: np.random.RandomState, spatial_shape: Sequence[int], fractions: tuple[float, float], count: int
) -> npt.NDArray[np.int64]:
    """(count, d) sides, uniform between two fractions of the image, at least one pixel."""
    shape = np.asarray(spatial_shape)
    # 3/7 of 7 must be 3 though 7 * (3/7) is a rounding error below it
    low, high = (np.floor(shape * fraction + 1e-6).astype(np.int64) for fraction in fractions)
    return draw_integers(R, np.maximum(low, 1), np.maximum(high, 1), size=(count, len(shape)))


def _check_count(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}; to leave the distortion out, set its prob to 0")


def _check_fractions(**fractions: tuple[float, float]) -> None:
    for name, (low, high) in fractions.items():
        if not 0.0 <= low <= high <= 1.0:
            raise ValueError(f"{name} must be two fractions of the image side, low <= high, got {(low, high)}")


class _RandDistortion(RandomizableTransform):
    """Draw a :class:`Distortion` in ``randomize`` and apply it; subclasses say what is drawn."""

    backend = BACKENDS

    def __init__(self, prob: float) -> None:
        check_prob(prob=prob)
        super().__init__(prob)
        self.distortion = Distortion()

    @abstractmethod
    def draw(self, R: np.random.RandomState, spatial_shape: Sequence[int]) -> Distortion:
        """Draw what is applied to an image of that shape, from any generator."""

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for an image of spatial shape ``data``; the record is kept as ``distortion``."""
        super().randomize(None)
        self.distortion = self.draw(self.R, data) if self._do_transform else Distortion()

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Distort one image (C, H, W[, D]); with ``randomize=False`` as the last one was."""
        if randomize:
            self.randomize(tuple(img.shape[1:]))
        return distort(img, self.distortion)


class RandLocalPixelShuffle(_RandDistortion):
    """Permute the pixels inside small windows; see :func:`~monai_anat.transforms.local_pixel_shuffle`.

    Args:
        prob: share of images that are shuffled.
        num_blocks: number of windows.
        max_side: largest side of a window, as a fraction of the image side; at least one pixel.

    >>> image = np.arange(64, dtype=np.uint8).reshape(1, 8, 8)
    >>> RandLocalPixelShuffle(max_side=0.5).set_random_state(0)(image).shape
    (1, 8, 8)
    """

    def __init__(self, prob: float = 1.0, num_blocks: int = 40, max_side: float = 0.1) -> None:
        super().__init__(prob)
        _check_count(num_blocks=num_blocks)
        _check_fractions(max_side=(0.0, max_side))
        self.num_blocks = num_blocks
        self.max_side = max_side

    def draw(self, R: np.random.RandomState, spatial_shape: Sequence[int]) -> Distortion:
        """Draw windows and the seed of their permutations."""
        sides = _sides(R, spatial_shape, (0.0, self.max_side), self.num_blocks)
        return Distortion(shuffle=PixelShuffleDraw(draw_boxes(R, spatial_shape, sides), draw_seed(R)))


class RandBezierIntensity(_RandDistortion):
    """Map gray levels along a random Bezier curve; see :func:`~monai_anat.transforms.apply_bezier`.

    Args:
        prob: share of images that are mapped.
        invert_prob: share of those whose contrast is inverted.

    >>> image = np.array([[[0, 255]]], np.uint8)
    >>> RandBezierIntensity(prob=1.0, invert_prob=1.0).set_random_state(0)(image).tolist()
    [[[1.0, 0.0]]]
    """

    def __init__(self, prob: float = 0.9, invert_prob: float = 0.5) -> None:
        super().__init__(prob)
        check_prob(invert_prob=invert_prob)
        self.invert_prob = invert_prob

    def draw(self, R: np.random.RandomState, spatial_shape: Sequence[int]) -> Distortion:
        """Draw the control points and the direction."""
        (u1, u2), (u3, u4) = R.random_sample((2, 2)).tolist()
        return Distortion(bezier=BezierDraw(((u1, u2), (u3, u4)), bool(R.random_sample() < self.invert_prob)))


class RandInPaint(_RandDistortion):
    """Fill a few boxes with noise; see :func:`~monai_anat.transforms.in_paint`.

    Args:
        prob: share of images that are painted.
        max_boxes: largest number of boxes.
        next_prob: probability with which each box is reached, given the one before.
        sides: range of their sides as fractions of the image side.

    >>> image = np.zeros((1, 64, 64), np.float32)
    >>> bool((RandInPaint(prob=1.0, next_prob=1.0).set_random_state(0)(image) > 0).any())
    True
    """

    def __init__(
        self,
        prob: float = 0.9,
        max_boxes: int = 5,
        next_prob: float = 0.95,
        sides: tuple[float, float] = (1 / 6, 1 / 3),
    ) -> None:
        super().__init__(prob)
        _check_count(max_boxes=max_boxes)
        check_prob(next_prob=next_prob)
        _check_fractions(sides=(sides[0], sides[1]))
        self.max_boxes = max_boxes
        self.next_prob = next_prob
        self.sides = sides

    def draw(self, R: np.random.RandomState, spatial_shape: Sequence[int]) -> Distortion:
        """Draw the boxes and the seed of their noise."""
        count = draw_run_length(R, self.max_boxes, self.next_prob)
        boxes = draw_boxes(R, spatial_shape, _sides(R, spatial_shape, self.sides, count), _PAINT_MARGIN)
        return Distortion(paint=PaintDraw(boxes, outside=False, seed=draw_seed(R)))


class RandOutPaint(_RandDistortion):
    """Keep the image in a few boxes and put noise around them; see :func:`~monai_anat.transforms.out_paint`.

    Args:
        prob: share of images that are painted.
        max_boxes: largest number of boxes; there is always one.
        next_prob: probability with which each further box is reached, given the one before.
        removed: range of what a box lacks of the image side, as fractions of it.

    >>> image = np.zeros((1, 64, 64), np.float32)
    >>> bool((RandOutPaint(prob=1.0).set_random_state(0)(image) == 0).any())
    True
    """

    def __init__(
        self,
        prob: float = 0.9,
        max_boxes: int = 5,
        next_prob: float = 0.95,
        removed: tuple[float, float] = (3 / 7, 4 / 7),
    ) -> None:
        super().__init__(prob)
        _check_count(max_boxes=max_boxes)
        check_prob(next_prob=next_prob)
        _check_fractions(removed=(removed[0], removed[1]))
        self.max_boxes = max_boxes
        self.next_prob = next_prob
        self.removed = removed

    def draw(self, R: np.random.RandomState, spatial_shape: Sequence[int]) -> Distortion:
        """Draw the boxes and the seed of the noise."""
        count = 1 + draw_run_length(R, self.max_boxes - 1, self.next_prob)
        kept = np.maximum(np.asarray(spatial_shape) - _sides(R, spatial_shape, self.removed, count), 1)
        boxes = draw_boxes(R, spatial_shape, kept, _PAINT_MARGIN)
        return Distortion(paint=PaintDraw(boxes, outside=True, seed=draw_seed(R)))


class RandDistort(_RandDistortion):
    """The distortion chain of POPAR (PMC9728135) and PEAC (arXiv 2312.00335), in one transform.

    Local pixel shuffle, then with ``bezier_prob`` an intensity map (inverted with ``invert_prob`` of these), then with
    ``paint_prob`` either out-painting (``out_paint_prob``) or in-painting. The defaults are the papers'.

    Differs from the released code: ``shuffle_prob`` has an effect; noise has one color on gray images.

    Args:
        prob: share of images that are distorted at all.
        shuffle_prob: probability of the local pixel shuffle.
        bezier_prob: probability of the intensity map.
        invert_prob: share of the intensity maps that invert contrast.
        paint_prob: probability of painting.
        out_paint_prob: share of paintings that paint outside.
        num_blocks: windows of the local pixel shuffle.
        max_boxes: largest number of painted or kept boxes.
        next_prob: probability with which each further box is reached, given the one before.

    >>> image = np.arange(4096, dtype=np.uint8).reshape(1, 64, 64)
    >>> out = RandDistort().set_random_state(0)(image)
    >>> out.dtype, bool((out >= 0).all() and (out <= 1).all())
    (dtype('float32'), True)
    """

    def __init__(
        self,
        prob: float = 1.0,
        shuffle_prob: float = 1.0,
        bezier_prob: float = 0.9,
        invert_prob: float = 0.5,
        paint_prob: float = 0.9,
        out_paint_prob: float = 0.8,
        num_blocks: int = 40,
        max_boxes: int = 5,
        next_prob: float = 0.95,
    ) -> None:
        super().__init__(prob)
        check_prob(shuffle_prob=shuffle_prob, bezier_prob=bezier_prob, paint_prob=paint_prob)
        check_prob(out_paint_prob=out_paint_prob)
        self.shuffle_prob = shuffle_prob
        self.bezier_prob = bezier_prob
        self.paint_prob = paint_prob
        self.out_paint_prob = out_paint_prob
        self.shuffle = RandLocalPixelShuffle(num_blocks=num_blocks)
        self.bezier = RandBezierIntensity(invert_prob=invert_prob)
        self.in_paint = RandInPaint(max_boxes=max_boxes, next_prob=next_prob)
        self.out_paint = RandOutPaint(max_boxes=max_boxes, next_prob=next_prob)

    def draw(self, R: np.random.RandomState, spatial_shape: Sequence[int]) -> Distortion:
        """Draw which operations are applied, and their parameters."""
        shuffled, mapped, painted, outside = R.random_sample(4)
        paint = self.out_paint if outside < self.out_paint_prob else self.in_paint
        return Distortion(
            shuffle=self.shuffle.draw(R, spatial_shape).shuffle if shuffled < self.shuffle_prob else None,
            bezier=self.bezier.draw(R, spatial_shape).bezier if mapped < self.bezier_prob else None,
            paint=paint.draw(R, spatial_shape).paint if painted < self.paint_prob else None,
        )


class RandDistortOne(_RandDistortion):
    """Exactly one of four distortions, as TransVW and Models Genesis (arXiv 1908.06912) use them on volumes.

    Local pixel shuffle, intensity map, in-painting or out-painting, by default with equal probability and one box each.

    Args:
        prob: share of images that are distorted at all.
        weights: how often shuffle, intensity map, in-painting and out-painting come, relative to each other.
        num_blocks: windows of the local pixel shuffle; TransVW has 5, Models Genesis 1,000 or 10,000.
        max_boxes: largest number of painted or kept boxes.
        next_prob: probability with which each further box is reached, given the one before.
        invert_prob: share of the intensity maps that invert contrast.

    Raises:
        ValueError: for weights that are not four non-negative numbers with a positive sum.

    >>> RandDistortOne().set_random_state(0)(np.zeros((1, 16, 16, 8), np.float32)).shape
    (1, 16, 16, 8)
    """

    def __init__(
        self,
        prob: float = 1.0,
        weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        num_blocks: int = 5,
        max_boxes: int = 1,
        next_prob: float = 1.0,
        invert_prob: float = 0.5,
    ) -> None:
        super().__init__(prob)
        if len(weights) != 4 or min(weights) < 0 or sum(weights) <= 0:
            raise ValueError(
                f"weights must be four numbers >= 0 (shuffle, intensity map, in-painting, out-painting), got {weights}"
            )
        self.weights = tuple(weights)
        self.transforms = (
            RandLocalPixelShuffle(num_blocks=num_blocks),
            RandBezierIntensity(invert_prob=invert_prob),
            RandInPaint(max_boxes=max_boxes, next_prob=next_prob),
            RandOutPaint(max_boxes=max_boxes, next_prob=next_prob),
        )

    def draw(self, R: np.random.RandomState, spatial_shape: Sequence[int]) -> Distortion:
        """Draw which of the four is applied, and its parameters."""
        shares = np.asarray(self.weights) / sum(self.weights)
        return self.transforms[int(R.choice(4, p=shares))].draw(R, spatial_shape)


class RandCutSwap(_RandDistortion):
    """The distortions of DiRA (arXiv 2204.10437): cut-outs, or swapped blocks, or nothing.

    One number decides: with ``cut_prob`` boxes are set to 0, with ``keep_prob`` everything outside boxes is, with
    ``swap_prob`` pairs of blocks change places, else the image stays. The sides are DiRA's at 224 pixels, as fractions.

    Differs from the released code: two swapped blocks never overlap.

    Args:
        prob: share of images that are distorted at all.
        cut_prob: probability of the inner cut-out.
        keep_prob: probability of the outer cut-out.
        swap_prob: probability of the block swap.
        max_boxes: largest number of boxes that are cut or kept; there is always one.
        next_prob: probability with which each further box is reached, given the one before.
        cut_sides: range of the sides of cut boxes, as fractions of the image side.
        removed: range of what a kept box lacks of the image side.
        num_swaps: number of pairs.
        swap_sides: range of their sides.

    Raises:
        ValueError: for probabilities that are negative or add up to more than 1, or ranges that are not in [0, 1].

    >>> image = np.ones((1, 56, 56), np.float32)
    >>> bool((RandCutSwap(cut_prob=1.0, keep_prob=0.0, swap_prob=0.0).set_random_state(0)(image) == 0).any())
    True
    """

    def __init__(
        self,
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
    ) -> None:
        super().__init__(prob)
        check_prob(cut_prob=cut_prob, keep_prob=keep_prob, swap_prob=swap_prob, next_prob=next_prob)
        if cut_prob + keep_prob + swap_prob > 1 + 1e-9:
            raise ValueError(
                "cut_prob, keep_prob and swap_prob must add up to 1 at most, got "
                f"{cut_prob} + {keep_prob} + {swap_prob}; the rest is the share of images that stay"
            )
        _check_count(max_boxes=max_boxes, num_swaps=num_swaps)
        _check_fractions(cut_sides=cut_sides, removed=removed, swap_sides=swap_sides)
        self.cut_prob = cut_prob
        self.keep_prob = keep_prob
        self.swap_prob = swap_prob
        self.max_boxes = max_boxes
        self.next_prob = next_prob
        self.cut_sides = cut_sides
        self.removed = removed
        self.num_swaps = num_swaps
        self.swap_sides = swap_sides

    def draw(self, R: np.random.RandomState, spatial_shape: Sequence[int]) -> Distortion:
        """Draw which of the three is applied, if any, and its parameters."""
        decision = R.random_sample()
        if decision < self.cut_prob:
            return Distortion(cut=CutDraw(self._boxes(R, spatial_shape, self.cut_sides), outside=False))
        if decision < self.cut_prob + self.keep_prob:
            kept = (1 - self.removed[1], 1 - self.removed[0])
            return Distortion(cut=CutDraw(self._boxes(R, spatial_shape, kept), outside=True))
        if decision < self.cut_prob + self.keep_prob + self.swap_prob:
            sides = _sides(R, spatial_shape, self.swap_sides, self.num_swaps)
            return Distortion(swap=SwapDraw(draw_swaps(R, spatial_shape, sides)))
        return Distortion()

    def _boxes(
        self, R: np.random.RandomState, spatial_shape: Sequence[int], sides: tuple[float, float]
    ) -> npt.NDArray[np.int64]:
        count = 1 + draw_run_length(R, self.max_boxes - 1, self.next_prob)
        return draw_boxes(R, spatial_shape, _sides(R, spatial_shape, sides, count))
