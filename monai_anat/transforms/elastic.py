"""Elastic deformation by a displacement field, and sampling of an image at arbitrary positions.

Methods that compare parts with their whole must crop both from the same deformed image, so that they stay aligned.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from monai.config import NdarrayOrTensor
from monai.transforms import RandomizableTransform
from scipy.ndimage import gaussian_filter
from torch import Tensor

from monai_anat.precision import at_least_float32
from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, same_kind, unit_range
from monai_anat.transforms.draws import check_prob, draw_seed, random_generator

__all__ = ["ElasticDraw", "RandElastic", "displacement_field", "pixel_positions", "sample_at"]


@dataclass(frozen=True, eq=False)
class ElasticDraw:
    """One draw of an elastic deformation. All lengths are in pixels.

    Attributes:
        corners: (d + 1, d), displacements of the corners of a simplex in the image, which define an affine map.
        magnitude: largest displacement before smoothing.
        smoothness: standard deviation of the Gaussian that smooths the displacements.
        seed: random seed of the displacements.
    """

    corners: npt.NDArray[np.float64]
    magnitude: float
    smoothness: float
    seed: int


def pixel_positions(shape: Sequence[int]) -> Tensor:
    """Compute the position of every pixel.

    Args:
        shape: shape of the image without channels, d axes.

    Returns:
        (d, H, W[, D]) float32.

    >>> pixel_positions((1, 3))[1]
    tensor([[0., 1., 2.]])
    """
    axes = [torch.arange(side, dtype=torch.float32) for side in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def displacement_field(shape: Sequence[int], draw: ElasticDraw) -> Tensor:
    """Compute a smooth random displacement field plus an affine map (Simard et al., ICDAR 2003; Albumentations).

    Displacements are uniform in [-magnitude, magnitude] and smoothed by a Gaussian. The affine part displaces the
    corners of a simplex, which lie a sixth of the shortest side away from the edges, by the corners of the draw.

    Args:
        shape: shape of the image without channels.
        draw: the draw to apply.

    Returns:
        (d, H, W[, D]) float32, the source of each pixel relative to it, in pixels.

    >>> still = ElasticDraw(np.zeros((3, 2)), magnitude=0.0, smoothness=4.0, seed=0)
    >>> displacement_field((8, 8), still).abs().max()
    tensor(0.)
    """
    dims = len(shape)
    third = min(shape) / 3
    first = torch.tensor([side / 2 - third for side in shape]).reshape(-1, *[1] * dims)
    corners = torch.from_numpy(draw.corners).to(torch.float32)
    along = (pixel_positions(shape) - first) / (2 * third)  # 0 at the first corner, 1 at the one along the axis
    field: Tensor = corners[0].reshape(-1, *[1] * dims) + torch.tensordot((corners[1:] - corners[0]).T, along, dims=1)
    if draw.magnitude > 0:
        noise = torch.rand((dims, *shape), generator=random_generator(draw.seed, field)).mul_(2).sub_(1)
        axes = tuple(range(1, dims + 1))  # SciPy's filter takes a third of the time of MONAI's GaussianFilter
        smooth = gaussian_filter(noise.numpy(), draw.smoothness, mode="constant", truncate=4.0, axes=axes)
        field += draw.magnitude * torch.from_numpy(smooth)
    return field


def sample_at(img: Tensor, positions: Tensor) -> Tensor:
    """Sample an image at arbitrary positions by linear interpolation, with reflection at the edges.

    Args:
        img: (C, H, W[, D]), uint8, uint16, or floating point in [0, 1].
        positions: (d, h, w[, d]), in pixels of the image.

    Returns:
        (C, h, w[, d]) in [0, 1]; float32 for integers, else the type of the input.

    >>> sample_at(torch.tensor([[[0.0, 1.0, 2.0]]]), torch.tensor([[[0.0]], [[1.5]]])).item()
    1.5
    """
    gray = unit_range(img)
    pixels = at_least_float32(gray)  # positions in half precision would be off by whole pixels
    last = torch.tensor([max(side - 1, 1) for side in pixels.shape[1:]], dtype=pixels.dtype)
    unit = positions.to(pixels.dtype).movedim(0, -1) / last * 2 - 1  # (h, w, d)
    # grid_sample expects (x, y[, z]), the last axis first
    grid = unit.flip(-1)[None]
    sampled: Tensor = F.grid_sample(pixels[None], grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    return sampled[0].to(gray.dtype)


class RandElastic(RandomizableTransform):
    """Random elastic deformation; see :func:`displacement_field`.

    The defaults are those of Lamps (arXiv:2512.22872) for images of about 600 pixels. For other sizes, scale
    ``smoothness`` and ``affine`` with the side of the image and ``magnitude`` with its square, because wider smoothing
    reduces the displacements more (here from 30 to 0.8 pixels).

    Args:
        prob: probability of a deformation.
        magnitude: largest displacement before smoothing, in pixels.
        smoothness: standard deviation of the Gaussian that smooths the displacements, in pixels.
        affine: largest displacement of a corner of the affine part per axis, in pixels.

    Raises:
        ValueError: if the probability is outside [0, 1] or a length is negative.

    >>> RandElastic(prob=1.0).set_random_state(0)(np.zeros((1, 32, 32), np.float32)).shape
    (1, 32, 32)
    """

    backend = BACKENDS

    def __init__(
        self, prob: float = 0.5, magnitude: float = 30.0, smoothness: float = 6.0, affine: float = 20.0
    ) -> None:
        check_prob(prob=prob)
        if min(magnitude, affine) < 0 or smoothness <= 0:
            raise ValueError(
                f"magnitude and affine must be at least 0 and smoothness positive, got {magnitude=}, {affine=} and "
                f"{smoothness=}; to leave the deformation out, set prob to 0"
            )
        super().__init__(prob)
        self.magnitude = magnitude
        self.smoothness = smoothness
        self.affine = affine
        self.deformation: ElasticDraw | None = None

    def draw(self, R: np.random.RandomState, spatial_dims: int) -> ElasticDraw | None:
        """Draw a deformation from a generator; None means no deformation."""
        if R.random_sample() >= self.prob:
            return None
        corners = R.uniform(-self.affine, self.affine, (spatial_dims + 1, spatial_dims))
        return ElasticDraw(corners, self.magnitude, self.smoothness, draw_seed(R))

    def randomize(self, data: Sequence[int]) -> None:
        """Draw for an image of spatial shape ``data``; the draw is stored as ``deformation``."""
        self.deformation = self.draw(self.R, len(data))

    def __call__(self, img: NdarrayOrTensor, randomize: bool = True) -> NdarrayOrTensor:
        """Deform one image (C, H, W[, D]) to intensities in [0, 1]; with ``randomize=False``, repeat the last draw."""
        if randomize:
            self.randomize(tuple(img.shape[1:]))
        pixels = plain_tensor(img)
        if self.deformation is None:
            return same_kind(unit_range(pixels), img)
        shape = tuple(pixels.shape[1:])
        return same_kind(sample_at(pixels, pixel_positions(shape) + displacement_field(shape, self.deformation)), img)
