"""Light augmentation of a batch of images and masks."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["augment_batch"]


def augment_batch(
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
    *,
    degrees: float = 10.0,
    scale: float = 0.15,
    shift: float = 0.08,
    gamma: float = 0.4,
    noise: float = 0.02,
) -> tuple[Tensor, Tensor]:
    """Rotate, scale, shift and change the intensity of each image by its own random draw. Labels move along.

    It makes one call of ``grid_sample`` per tensor, which takes a few milliseconds; a chain of dictionary transforms
    takes about a hundred. There is no flip, because the heart is on the left.

    Args:
        images: (B, 1, H, W) in [0, 1].
        labels: (B, H, W) class numbers.
        generator: random generator on the CPU. The same state gives the same batch on every device.
        degrees: largest rotation.
        scale: largest relative change of size.
        shift: largest shift as a fraction of the image side.
        gamma: largest exponent of the intensity, as log2; contrast changes by half of it.
        noise: largest standard deviation of Gaussian noise.

    Returns:
        Images and labels of the same shapes and types.

    Raises:
        ValueError: if images and labels do not match.

    >>> images, labels = torch.rand(2, 1, 8, 8), torch.ones(2, 8, 8, dtype=torch.uint8)
    >>> new_images, new_labels = augment_batch(images, labels, torch.Generator().manual_seed(0))
    >>> new_images.shape, new_labels.dtype
    (torch.Size([2, 1, 8, 8]), torch.uint8)
    """
    if images.ndim != 4 or images.shape[:1] + images.shape[2:] != labels.shape:
        raise ValueError(
            f"images must be (B, 1, H, W) and labels (B, H, W), got {tuple(images.shape)} and {tuple(labels.shape)}"
        )
    count, device = len(images), images.device
    draw = torch.rand(count, 8, generator=generator) * 2 - 1
    angle = draw[:, 0] * math.radians(degrees)
    size = torch.exp2(draw[:, 1] * math.log2(1 + scale)) if scale else torch.ones(count)
    ratio = images.shape[-2] / images.shape[-1]
    cosine, sine = torch.cos(angle) / size, torch.sin(angle) / size
    theta = torch.stack(
        [
            torch.stack([cosine, -sine * ratio, draw[:, 2] * 2 * shift], dim=1),
            torch.stack([sine / ratio, cosine, draw[:, 3] * 2 * shift], dim=1),
        ],
        dim=1,
    )  # (B, 2, 3)
    grid = F.affine_grid(theta.to(device), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    truth = F.grid_sample(
        labels[:, None].to(images.dtype), grid, mode="nearest", padding_mode="zeros", align_corners=False
    )
    exponent, contrast, bright = (column.to(device).reshape(-1, 1, 1, 1) for column in draw[:, 4:7].unbind(1))
    moved = moved.clamp(0, 1).pow(torch.exp2(exponent * gamma))
    moved = (moved - 0.5) * torch.exp2(contrast * gamma / 2) + 0.5 + bright * gamma / 4
    spread = (draw[:, 7].abs() * noise).to(device).reshape(-1, 1, 1, 1)
    moved = moved + spread * torch.randn(images.shape, generator=generator).to(device)
    return moved.clamp(0, 1), truth[:, 0].round().to(labels.dtype)
