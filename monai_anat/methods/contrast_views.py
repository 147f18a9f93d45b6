"""Two random views of one image, for contrastive and other joint-embedding methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
from monai.config import KeysCollection
from torch import Tensor

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.keys import IMAGE, VIEW_1, VIEW_2
from monai_anat.methods.views import RandViewsd
from monai_anat.transforms.appearance import Appearance, RandAppearance, change_appearance
from monai_anat.transforms.array_kinds import plain_tensor
from monai_anat.transforms.distortions import Distortion, RandCutSwap, RandDistort, distort
from monai_anat.transforms.draws import check_prob
from monai_anat.transforms.resized_crops import draw_resized_crop_box, resized_crop

__all__ = ["RandContrastViewsd", "ViewDraw", "alter_view", "asymmetric_appearances", "check_area", "cut_view"]


@dataclass(frozen=True, eq=False)
class ViewDraw:
    """Draw of one view.

    Attributes:
        box: corner and sides (2, d) of the crop in pixels of the image.
        flipped: whether the crop is flipped from left to right.
        appearance: change of brightness, contrast, blur and the like.
        distortion: distortion of the crop after that.
    """

    box: npt.NDArray[np.int64]
    flipped: bool = False
    appearance: Appearance = field(default_factory=Appearance)
    distortion: Distortion = field(default_factory=Distortion)


def cut_view(
    pixels: Tensor, draw: ViewDraw, size: int | Sequence[int], mode: Literal["bilinear", "bicubic"] = "bilinear"
) -> Tensor:
    """Apply the geometry of a draw: crop, resize and flip.

    Args:
        pixels: image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        draw: the draw.
        size: side of the view in pixels, one number or one per axis.
        mode: interpolation.

    Returns:
        The crop (C, h, w[, d]), floating point in [0, 1].
    """
    crop = resized_crop(pixels, draw.box, size, mode)
    return crop.flip(2) if draw.flipped else crop


def alter_view(crop: Tensor, draw: ViewDraw) -> Tensor:
    """Apply the changes of gray levels of a draw: appearance, then distortion.

    Args:
        crop: crop of :func:`cut_view`.
        draw: the same draw.

    Returns:
        The view in [0, 1], before normalization.
    """
    return plain_tensor(distort(change_appearance(crop, draw.appearance), draw.distortion))


def check_area(name: str, area: tuple[float, float]) -> None:
    """Check that an argument is a range of shares of the image.

    Args:
        name: name of the argument.
        area: value of the argument.

    Raises:
        ValueError: if a share is outside (0, 1], or the first is larger than the second.
    """
    if not 0 < area[0] <= area[1] <= 1:
        raise ValueError(f"{name} must be two shares of the image in (0, 1], the smaller first, got {area}")


def asymmetric_appearances(
    blur_sigma: tuple[float, float] = (0.1, 2.0),
) -> tuple[RandAppearance, RandAppearance]:
    """Make the two appearance changes of BYOL (arXiv:2006.07733), VICReg and Barlow Twins for gray images.

    Args:
        blur_sigma: smallest and largest standard deviation of the blur in pixels; published for views of 224 pixels.

    Returns:
        One change per view. Both change brightness and contrast by up to 40 % with probability 0.8. The first always
        blurs and never solarizes; the second blurs with probability 0.1 and solarizes with probability 0.2.
    """
    return (
        RandAppearance(blur_sigma=blur_sigma, blur_prob=1.0),
        RandAppearance(blur_sigma=blur_sigma, blur_prob=0.1, solarize_prob=0.2),
    )


class RandContrastViewsd(RandViewsd):
    """Make two independent views of one image: the augmentation of MoCo v2 for gray images.

    A random box is cut out and resampled, flipped with ``flip_prob``, changed in brightness and contrast, blurred, and
    distorted if a ``distorter`` is given (Chen et al., 2020, arXiv:2003.04297). Saturation, hue and grayscale have no
    effect on one channel and are left out. The published flip probability is 0.5; the default here is 0, because the
    heart lies on the left. Give the ``distorter`` of an anatomy method to compare objectives with equal augmentation.

    The item holds ``view_1`` and ``view_2``, (C, h, w[, d]) each and normalized.

    Args:
        keys: key of the image (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        image_size: side of a view in pixels, one number or one per axis.
        area: smallest and largest share of the image in a view.
        flip_prob: probability of flipping each view from left to right.
        mean: mean of the gray levels in [0, 1], for normalization.
        std: standard deviation of the gray levels in [0, 1], for normalization.
        appearance: change of appearance, one for both views or one per view; that of MoCo v2 by default.
        distorter: distortion of the views; none by default.
        mode: interpolation, "bilinear" or "bicubic".

    Raises:
        ValueError: if a probability is outside [0, 1], or a share is outside (0, 1].

    >>> views = RandContrastViewsd(image_size=32).set_random_state(0)
    >>> sample = views({"image": np.zeros((1, 80, 64), np.uint8)})
    >>> {key: tuple(value.shape) for key, value in sample.items()}
    {'view_1': (1, 32, 32), 'view_2': (1, 32, 32)}
    """

    def __init__(
        self,
        keys: KeysCollection = IMAGE,
        image_size: int | Sequence[int] = 224,
        *,
        area: tuple[float, float] = (0.2, 1.0),
        flip_prob: float = 0.0,
        mean: float = CHEST_MEAN,
        std: float = CHEST_STD,
        appearance: RandAppearance | tuple[RandAppearance, RandAppearance] | None = None,
        distorter: RandDistort | RandCutSwap | None = None,
        mode: Literal["bilinear", "bicubic"] = "bilinear",
    ) -> None:
        super().__init__(keys, mean, std)
        check_prob(flip_prob=flip_prob)
        check_area("area", area)
        self.image_size = image_size
        self.area = (area[0], area[1])
        self.flip_prob = flip_prob
        appearance = RandAppearance() if appearance is None else appearance
        self.appearances = appearance if isinstance(appearance, tuple) else (appearance, appearance)
        self.distorter = distorter
        self.mode: Literal["bilinear", "bicubic"] = mode
        self.draws: tuple[ViewDraw, ...] = ()

    def randomize(self, data: Sequence[int]) -> None:
        """Draw both views of an image of spatial shape ``data`` into ``draws``."""
        self.draws = tuple(
            self.draw_view(data, appearance, self.area, self.image_size) for appearance in self.appearances
        )

    def draw_view(
        self,
        spatial_shape: Sequence[int],
        appearance: RandAppearance,
        area: tuple[float, float],
        size: int | Sequence[int],
    ) -> ViewDraw:
        """Draw one view.

        Args:
            spatial_shape: spatial shape of the image.
            appearance: change of appearance.
            area: smallest and largest share of the image in the view.
            size: side of the view in pixels, one number or one per axis.

        Returns:
            The draw.
        """
        box = draw_resized_crop_box(self.R, spatial_shape, area)
        view_shape = np.broadcast_to(size, len(spatial_shape)).tolist()
        return ViewDraw(
            box,
            flipped=bool(self.R.random_sample() < self.flip_prob),
            appearance=appearance.draw(self.R),
            distortion=Distortion() if self.distorter is None else self.distorter.draw(self.R, view_shape),
        )

    def views(self, pixels: Tensor) -> dict[str, Tensor]:
        """Draw and make the two views of one image."""
        self.randomize(tuple(pixels.shape[1:]))
        crops = [cut_view(pixels, draw, self.image_size, self.mode) for draw in self.draws]
        return self.entries(crops)

    def entries(self, crops: Sequence[Tensor]) -> dict[str, Tensor]:
        """Make the batch item from the clean crops.

        Args:
            crops: one crop per draw, before any change of gray levels.

        Returns:
            The views by key.
        """
        names = (VIEW_1, VIEW_2)
        return {
            name: self.normalize(alter_view(crop, draw))
            for name, crop, draw in zip(names, crops, self.draws, strict=True)
        }
