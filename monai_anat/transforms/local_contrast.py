"""Sharpening and local histogram equalization."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from skimage.exposure import equalize_adapthist
from torch import Tensor

__all__ = ["equalize_regions", "sharpen"]


def sharpen(pixels: Tensor, amount: float) -> Tensor:
    """Sharpen by adding the sum of the differences from the eight neighbors.

    Args:
        pixels: (C, H, W), floating point in [0, 1].
        amount: weight of the differences; 0 has no effect.

    Returns:
        Intensities in [0, 1], a new tensor.

    Raises:
        ValueError: if the amount is negative.

    >>> sharpen(torch.tensor([[[0.0, 0.0, 0.0], [0.0, 0.1, 0.0], [0.0, 0.0, 0.0]]]), 0.5)[0, 1]
    tensor([0.0000, 0.5000, 0.0000])
    """
    if amount < 0:
        raise ValueError(f"amount must be at least 0, got {amount}; gaussian_blur smooths")
    padded = F.pad(pixels[None], (1, 1, 1, 1), mode="replicate")
    mean = F.avg_pool2d(padded, 3, stride=1)[0]  # mean of the pixel and its eight neighbors
    return (pixels + 9 * amount * (pixels - mean)).clamp_(0.0, 1.0)


def equalize_regions(pixels: Tensor, clip: float) -> Tensor:
    """Equalize the histogram of each of 8 x 8 regions with limited contrast (CLAHE).

    Zuiderveld, Graphics Gems IV, 1994, computed by ``equalize_adapthist`` of scikit-image.

    Args:
        pixels: (C, H, W), floating point in [0, 1]; channels are processed independently.
        clip: clip limit relative to a uniform histogram, above 0. A higher limit gives more contrast.

    Returns:
        Intensities in [0, 1], float32.

    Raises:
        ValueError: if the limit is not positive.

    >>> equalize_regions(torch.linspace(0.4, 0.6, 64).repeat(1, 64, 1), 4.0).std() > 0.1
    tensor(True)
    """
    if not clip > 0:
        raise ValueError(f"clip must be positive, got {clip}; 1 to 4 is usual")
    bins = 256
    # blurring may round white slightly above 1, which scikit-image rejects
    channels = [
        torch.from_numpy(equalize_adapthist(channel.cpu().double().numpy(), clip_limit=min(1.0, clip / bins)))
        for channel in pixels.clamp(0.0, 1.0)
    ]
    return torch.stack(channels).to(pixels.device, torch.float32)
