"""Random distortions, alone and as the chain of POPAR and PEAC.

A draw is a small record, :class:`Distortion`. The pure function :func:`distort` applies it, so a draw can be stored and
replayed. All draws come from the generator ``R`` of the transform. Bulk noise comes from a torch generator whose seed
is part of the record.
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

#: distance in pixels of painted boxes from the edge of the image
_PAINT_MARGIN = 3


@dataclass(frozen=True)
class Distortion:
    """One draw of the distortions, applied in the order of the fields; None is not applied."""

    shuffle: PixelShuffleDraw | None = None
    bezier: BezierDraw | None = None
    paint: PaintDraw | None = None
    cut: CutDraw | None = None
    swap: SwapDraw | None = None


def distort(img: NdarrayOrTensor, distortion: Distortion) -> NdarrayOrTensor:
    """Apply a draw of distortions: local pixel shuffle, Bezier intensity map, painting, cut-out, swap.

    The first three form the chain of POPAR (PMC9728135) and PEAC (arXiv:2312.00335), from the operations of Models
    Genesis (arXiv:1908.06912). The last two are those of DiRA (arXiv:2204.10437). On uint8 images the intensity map is
    a table of 256 entries.

    Args:
        img: (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        distortion: the draw.

    Returns:
        The image in [0, 1], of the same kind and shape; float32 for integers. An empty record keeps all intensities.

    Raises:
        TypeError: if the full scale of the type is unknown.
        ValueError: if a value is outside [0, 1].

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
    """Draw sides (count, d), uniform between two fractions of the image and at least one pixel."""
    shape = np.asarray(spatial_shape)
    # 3/7 of 7 must be 3, although 7 * (3/7) is a rounding error below 3
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
    """Base of transforms that draw a :class:`Distortion` in ``randomize`` and apply it."""

    backend = BACKENDS

    def __init__(self, prob: float) -> None:
        check_prob(prob=prob)
        super().__init__(prob)
        self.distortion = Distortion()

    @abstractmethod
    def draw(self, R: np.random.RandomState, spatial_shape: Sequence[int]) -> Distortion:
        """Draw a distortion for an image of spatial shape ``spatial_shape``."""

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for an image of spatial shape ``data``; the draw is stored as ``distortion``."""
        super().randomize(None)
        self.distortion = self.draw(self.R, data) if self._do_transform else Distortion()

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Distort one image (C, H, W[, D]); with ``randomize=False``, repeat the last draw."""
        if randomize:
            self.randomize(tuple(img.shape[1:]))
        return distort(img, self.distortion)


class RandLocalPixelShuffle(_RandDistortion):
    """Permute the pixels inside small windows; see :func:`~monai_anat.transforms.local_pixel_shuffle`.

    Args:
        prob: probability of a shuffle.
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
    """Map intensities along a random Bezier curve; see :func:`~monai_anat.transforms.apply_bezier`.

    Args:
        prob: probability of a map.
        invert_prob: probability that the map inverts the contrast.

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
        prob: probability of painting.
        max_boxes: largest number of boxes.
        next_prob: probability of each further box.
        sides: range of the sides of a box as fractions of the image side.

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
    """Keep the image in a few boxes and fill the rest with noise; see :func:`~monai_anat.transforms.out_paint`.

    Args:
        prob: probability of painting.
        max_boxes: largest number of boxes, at least one.
        next_prob: probability of each further box.
        removed: range of the part of the image side that a box does not cover, as fractions.

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
    """Distortion chain of POPAR (PMC9728135) and PEAC (arXiv:2312.00335).

    The chain is a local pixel shuffle, an intensity map with probability ``bezier_prob``, and painting with probability
    ``paint_prob``. The defaults are those of the papers.

    Differs from the released code: ``shuffle_prob`` has an effect, and the noise on gray images is gray.

    Args:
        prob: probability of any distortion.
        shuffle_prob: probability of the local pixel shuffle.
        bezier_prob: probability of the intensity map.
        invert_prob: probability that an intensity map inverts the contrast.
        paint_prob: probability of painting.
        out_paint_prob: probability of out-painting instead of in-painting, given painting.
        num_blocks: number of windows of the local pixel shuffle.
        max_boxes: largest number of painted or kept boxes.
        next_prob: probability of each further box.

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
        """Draw the operations and their parameters."""
        shuffled, mapped, painted, outside = R.random_sample(4)
        paint = self.out_paint if outside < self.out_paint_prob else self.in_paint
        return Distortion(
            shuffle=self.shuffle.draw(R, spatial_shape).shuffle if shuffled < self.shuffle_prob else None,
            bezier=self.bezier.draw(R, spatial_shape).bezier if mapped < self.bezier_prob else None,
            paint=paint.draw(R, spatial_shape).paint if painted < self.paint_prob else None,
        )


class RandDistortOne(_RandDistortion):
    """Exactly one of four distortions, as in TransVW and Models Genesis (arXiv:1908.06912) for volumes.

    The four are local pixel shuffle, intensity map, in-painting and out-painting, by default equally likely and with
    one box.

    Args:
        prob: probability of any distortion.
        weights: relative frequency of shuffle, intensity map, in-painting and out-painting.
        num_blocks: number of windows of the local pixel shuffle; 5 in TransVW, 1,000 or 10,000 in Models Genesis.
        max_boxes: largest number of painted or kept boxes.
        next_prob: probability of each further box.
        invert_prob: probability that an intensity map inverts the contrast.

    Raises:
        ValueError: if the weights are not four non-negative numbers with a positive sum.

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
        """Draw one of the four distortions and its parameters."""
        shares = np.asarray(self.weights) / sum(self.weights)
        return self.transforms[int(R.choice(4, p=shares))].draw(R, spatial_shape)


class RandCutSwap(_RandDistortion):
    """Distortions of DiRA (arXiv:2204.10437): cut-out, block swap, or none.

    At most one is applied: boxes are set to 0 with probability ``cut_prob``, everything outside boxes is set to 0 with
    ``keep_prob``, and pairs of blocks are swapped with ``swap_prob``. The sides are those of DiRA for 224 pixels, as
    fractions.

    Differs from the released code: two swapped blocks never overlap.

    Args:
        prob: probability of any distortion.
        cut_prob: probability of the inner cut-out.
        keep_prob: probability of the outer cut-out.
        swap_prob: probability of the block swap.
        max_boxes: largest number of cut or kept boxes, at least one.
        next_prob: probability of each further box.
        cut_sides: range of the sides of cut boxes, as fractions of the image side.
        removed: range of the part of the image side that a kept box does not cover, as fractions.
        num_swaps: number of swapped pairs.
        swap_sides: range of the sides of swapped blocks, as fractions of the image side.

    Raises:
        ValueError: if a probability is negative, their sum exceeds 1, or a range is not in [0, 1].

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
        """Draw one of the three distortions, or none, and its parameters."""
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
