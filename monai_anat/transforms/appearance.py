"""Appearance augmentation of gray images: brightness, contrast, blur, solarization, rotation.

A draw is a small record, :class:`Appearance`. The pure function :func:`change_appearance` applies it, so a draw can be
stored and replayed. Saturation and hue have no effect on gray images and are omitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, cos, radians, sin

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from monai.config import NdarrayOrTensor
from monai.transforms import Randomizable, Transform
from torch import Tensor

from monai_anat.precision import at_least_float32
from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, same_kind, unit_range
from monai_anat.transforms.draws import check_prob
from monai_anat.transforms.shared_draw import RandDictionaryForm

__all__ = [
    "Appearance",
    "RandAppearance",
    "RandAppearanced",
    "adjust_brightness_contrast",
    "change_appearance",
    "gaussian_blur",
    "rotate_in_plane",
    "solarize",
]


def adjust_brightness_contrast(
    pixels: Tensor, brightness: float = 1.0, contrast: float = 1.0, contrast_first: bool = False
) -> Tensor:
    """Scale brightness and contrast, and clip to [0, 1] after each step.

    Args:
        pixels: floating point in [0, 1], of any shape.
        brightness: factor of the intensities; 1 has no effect.
        contrast: factor of the difference from the mean of the image; 1 has no effect.
        contrast_first: whether to change the contrast first; MoCo v2 draws this order.

    Returns:
        Intensities in [0, 1], a new tensor unless both factors are 1.

    >>> adjust_brightness_contrast(torch.tensor([0.25, 0.75]), brightness=0.5, contrast=2.0)
    tensor([0.0000, 0.5000])
    """
    for is_contrast in (contrast_first, not contrast_first):
        if is_contrast and contrast != 1.0:
            pixels = torch.lerp(pixels.mean(), pixels, contrast).clamp_(0.0, 1.0)
        elif not is_contrast and brightness != 1.0:
            pixels = (pixels * brightness).clamp_(0.0, 1.0)
    return pixels


def gaussian_blur(pixels: Tensor, sigma: float) -> Tensor:
    """Blur with a separable Gaussian and replicate padding.

    Args:
        pixels: (C, H, W[, D]), floating point.
        sigma: standard deviation in pixels; 0 has no effect. The kernel is truncated at three standard deviations.

    Returns:
        The blurred image, of the same shape.

    Raises:
        ValueError: if the standard deviation is negative.

    >>> gaussian_blur(torch.eye(3)[None], sigma=0.5)[0, 1]
    tensor([0.1791, 0.6415, 0.1791])
    """
    if sigma < 0:
        raise ValueError(f"sigma must be at least 0 pixels, got {sigma}")
    if sigma == 0:
        return pixels
    radius = ceil(3 * sigma)
    distance = torch.arange(-radius, radius + 1, dtype=torch.float64)
    middle, *sides = torch.softmax(-(distance**2) / (2 * sigma**2), 0)[radius:].tolist()
    # for such short kernels, summing shifted images is four to seven times as fast on a CPU as a convolution
    blurred = F.pad(at_least_float32(pixels), (radius,) * (2 * (pixels.ndim - 1)), mode="replicate")
    for axis, side in enumerate(pixels.shape[1:], start=1):
        padded = blurred
        blurred = padded.narrow(axis, radius, side) * middle
        for step, weight in enumerate(sides, start=1):
            pair = padded.narrow(axis, radius - step, side) + padded.narrow(axis, radius + step, side)
            blurred.add_(pair, alpha=weight)
    return blurred.to(pixels.dtype)


def rotate_in_plane(pixels: Tensor, angle: float, fill: float = 0.0) -> Tensor:
    """Rotate an image about its center, in the plane of its first two spatial axes.

    Args:
        pixels: (C, H, W[, D]), floating point; a volume is rotated about its third axis.
        angle: angle in degrees, counterclockwise; 0 has no effect.
        fill: intensity of pixels from outside the image.

    Returns:
        The image, linearly interpolated, of the same shape.

    >>> rotate_in_plane(torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]), 90.0).round()
    tensor([[[2., 4.],
             [1., 3.]]])
    """
    if angle == 0:
        return pixels
    wide = at_least_float32(pixels)  # positions in half precision would be off by whole pixels
    planes = wide if pixels.ndim == 3 else wide.movedim(-1, 1).flatten(0, 1)  # (C[ D], H, W)
    planes = planes[None] - fill if fill else planes[None]
    grid = _rotated_grid(angle, pixels.shape[1:3]).to(planes)[None]
    turned = F.grid_sample(planes, grid, align_corners=False)[0].to(pixels.dtype)
    turned = turned + fill if fill else turned
    return turned if pixels.ndim == 3 else turned.unflatten(0, (len(pixels), -1)).movedim(1, -1).contiguous()


def solarize(pixels: Tensor, threshold: float = 0.5) -> Tensor:
    """Invert intensities at or above a threshold, as in BYOL (Grill et al., 2020, arXiv:2006.07733).

    Args:
        pixels: floating point in [0, 1], of any shape.
        threshold: intensity at and above which ``v`` becomes ``1 - v``.

    Returns:
        A new tensor.

    >>> solarize(torch.tensor([0.25, 0.5, 1.0]))
    tensor([0.2500, 0.5000, 0.0000])
    """
    return torch.where(pixels >= threshold, 1.0 - pixels, pixels)


def _rotation(angle: float, plane: Sequence[int]) -> npt.NDArray[np.float64]:
    """Matrix (2, 3) from (row, column, 1) of the rotated image to (row, column) of the input."""
    c, s = cos(radians(angle)), sin(radians(angle))
    linear = np.array([[c, s], [-s, c]])
    middle = (np.array(plane) - 1) / 2
    return np.column_stack([linear, middle - linear @ middle])


def _rotated_grid(angle: float, plane: Sequence[int]) -> Tensor:
    """Sampling grid (H, W, 2) for ``grid_sample``, in its normalized (x, y) coordinates."""
    height, width = plane
    (row_by_row, row_by_col, _), (col_by_row, col_by_col, _) = _rotation(angle, plane).tolist()
    row = torch.arange(height).sub((height - 1) / 2)[:, None]  # from the center
    col = torch.arange(width).sub((width - 1) / 2)[None]
    x = (col * col_by_col + row * col_by_row) * (2 / width)
    y = (col * row_by_col + row * row_by_row) * (2 / height)
    return torch.stack([x, y], dim=-1)


@dataclass(frozen=True)
class Appearance:
    """One draw of an appearance change; the defaults have no effect.

    ``fill`` is the intensity of pixels from outside the image in a rotation by ``angle`` degrees.
    """

    brightness: float = 1.0
    contrast: float = 1.0
    contrast_first: bool = False
    blur_sigma: float = 0.0
    solarized: bool = False
    angle: float = 0.0
    fill: float = 0.0


def change_appearance(pixels: Tensor, appearance: Appearance) -> Tensor:
    """Apply a draw: brightness and contrast, blur, solarization, rotation, in this order.

    Args:
        pixels: (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        appearance: the draw.

    Returns:
        (C, H, W[, D]), floating point in [0, 1]; the input itself if it is floating point and nothing changes.

    >>> change_appearance(torch.tensor([[[0, 255]]], dtype=torch.uint8), Appearance(brightness=0.5))
    tensor([[[0.0000, 0.5000]]])
    """
    out = unit_range(pixels)
    out = adjust_brightness_contrast(out, appearance.brightness, appearance.contrast, appearance.contrast_first)
    out = gaussian_blur(out, appearance.blur_sigma)
    out = solarize(out) if appearance.solarized else out
    return rotate_in_plane(out, appearance.angle, appearance.fill)


class RandAppearance(Randomizable, Transform):
    """Randomly change brightness and contrast, blur, solarize and rotate; see :func:`change_appearance`.

    The defaults are the jitter and blur of MoCo v2 (Chen et al., 2020, arXiv:2003.04297) on a gray image. There is no
    flip: the heart is on the left.

    Args:
        brightness: largest change b of the brightness; the factor is uniform in [max(0, 1 - b), 1 + b].
        contrast: largest change of the contrast, in the same way.
        jitter_prob: probability of a change of brightness and contrast.
        blur_sigma: smallest and largest standard deviation of the blur in pixels.
        blur_prob: probability of a blur.
        solarize_prob: probability of a solarization.
        angle: largest angle of a rotation in degrees, in both directions.
        fill: intensity of pixels from outside the image in a rotation.

    Raises:
        ValueError: if a probability is outside [0, 1], or a range is empty or negative.

    >>> RandAppearance(angle=30).set_random_state(0)(np.zeros((1, 16, 16), np.uint8)).shape
    (1, 16, 16)
    """

    backend = BACKENDS

    def __init__(
        self,
        brightness: float = 0.4,
        contrast: float = 0.4,
        jitter_prob: float = 0.8,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        blur_prob: float = 0.5,
        solarize_prob: float = 0.0,
        angle: float = 0.0,
        fill: float = 0.0,
    ) -> None:
        check_prob(jitter_prob=jitter_prob, blur_prob=blur_prob, solarize_prob=solarize_prob)
        if min(brightness, contrast, angle) < 0:
            raise ValueError(
                "brightness, contrast and angle are largest changes and must be at least 0, got "
                f"brightness={brightness}, contrast={contrast}, angle={angle}"
            )
        if not 0 <= blur_sigma[0] <= blur_sigma[1]:
            raise ValueError(f"blur_sigma must be two numbers of pixels, the smaller first, got {blur_sigma}")
        self.brightness = brightness
        self.contrast = contrast
        self.jitter_prob = jitter_prob
        self.blur_sigma = blur_sigma
        self.blur_prob = blur_prob
        self.solarize_prob = solarize_prob
        self.angle = angle
        self.fill = fill
        self.appearance = Appearance()

    def draw(self, R: np.random.RandomState) -> Appearance:
        """Draw a change from a generator, which always advances by the same number of draws."""
        jittered, blurred, solarized, first, *places = R.random_sample(8).tolist()
        brightness, contrast, sigma, angle = places
        jitter = jittered < self.jitter_prob
        return Appearance(
            brightness=_factor(self.brightness, brightness) if jitter else 1.0,
            contrast=_factor(self.contrast, contrast) if jitter else 1.0,
            contrast_first=first < 0.5,
            blur_sigma=_between(*self.blur_sigma, sigma) if blurred < self.blur_prob else 0.0,
            solarized=solarized < self.solarize_prob,
            angle=_between(-self.angle, self.angle, angle),
            fill=self.fill,
        )

    def randomize(self, data: Sequence[int] | None = None) -> None:
        """Draw a change; the draw is stored as ``appearance``."""
        self.appearance = self.draw(self.R)

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Change one image (C, H, W[, D]); with ``randomize=False``, repeat the last draw."""
        if randomize:
            self.randomize()
        pixels = plain_tensor(img)
        index_map = None
        if self.appearance.angle:
            index_map = np.eye(pixels.ndim - 1, pixels.ndim)
            index_map[:2, [0, 1, -1]] = _rotation(self.appearance.angle, pixels.shape[1:3])
        changed = change_appearance(pixels, self.appearance)
        return same_kind(changed.clone() if changed is pixels else changed, img, index_map)


def _between(low: float, high: float, place: float) -> float:
    return low + (high - low) * place


def _factor(change: float, place: float) -> float:
    return _between(max(0.0, 1 - change), 1 + change, place)


class RandAppearanced(RandDictionaryForm):
    """Dictionary form of :class:`RandAppearance`.

    >>> RandAppearanced("image", angle=30.0)({"image": np.zeros((1, 16, 16), np.uint8)})["image"].shape
    (1, 16, 16)
    """

    array_transform = RandAppearance
