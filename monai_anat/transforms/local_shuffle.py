"""Local pixel shuffling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from monai.config import NdarrayOrTensor
from torch import Tensor

from monai_anat.transforms.array_kinds import plain_tensor, same_kind
from monai_anat.transforms.geometry import box_slices

__all__ = ["PixelShuffleDraw", "local_pixel_shuffle", "pixel_shuffle_map"]


@dataclass(frozen=True, eq=False)
class PixelShuffleDraw:
    """One draw of a local pixel shuffle: ``boxes`` (n, 2, d), first corner and sides, and the seed of the "
    "permutations."""

    boxes: npt.NDArray[np.int64]
    seed: int


def pixel_shuffle_map(spatial_shape: tuple[int, ...], boxes: npt.NDArray[np.int64], seed: int) -> Tensor:
    """Compute the source of each pixel of the shuffled image.

    Every window permutes pixels of the original image. Later windows overwrite earlier ones. The result is the same on
    every device.

    Args:
        spatial_shape: shape of the image without channels.
        boxes: (n, 2, d), first corner and sides of every window.
        seed: random seed of the permutations.

    Returns:
        int64 (P,), P = number of pixels: ``shuffled.flat[i] = original.flat[map[i]]``.

    >>> pixel_shuffle_map((1, 4), np.array([[[0, 1], [1, 1]]]), seed=0)
    tensor([0, 1, 2, 3])
    """
    index = np.arange(int(np.prod(spatial_shape))).reshape(spatial_shape)
    source = index.copy()
    generator = torch.Generator().manual_seed(seed)
    for box in boxes:
        window = box_slices(box)
        block = index[window]
        permutation = torch.randperm(block.size, generator=generator).numpy()
        source[window] = block.reshape(-1)[permutation].reshape(block.shape)
    return torch.from_numpy(source.reshape(-1))  # (P,)


def local_pixel_shuffle(img: NdarrayOrTensor, boxes: npt.NDArray[np.int64], seed: int) -> NdarrayOrTensor:
    """Permute the pixels inside small windows: the "local pixel shuffling" of Models Genesis (arXiv:1908.06912).

    Differs from the released code: all channels share one permutation, so that a gray image stays gray.

    Args:
        img: (..., H, W[, D]), of any type.
        boxes: (n, 2, d), first corner and sides of every window in pixels; later windows overwrite earlier ones.
        seed: random seed of the permutations.

    Returns:
        The shuffled image, of the same kind, shape and type.

    >>> image = np.arange(16).reshape(1, 4, 4)
    >>> out = local_pixel_shuffle(image, np.array([[[0, 0], [2, 2]]]), seed=0)
    >>> sorted(out[0, :2, :2].ravel().tolist()), out[0, 2:].tolist()
    ([0, 1, 4, 5], [[8, 9, 10, 11], [12, 13, 14, 15]])
    """
    pixels = plain_tensor(img)
    spatial = tuple(pixels.shape[-boxes.shape[-1] :])
    source = pixel_shuffle_map(spatial, boxes, seed).to(pixels.device)
    return same_kind(_gather_pixels(pixels, source), img)


def _gather_pixels(pixels: Tensor, source: Tensor) -> Tensor:
    if pixels.dtype == torch.uint16:  # torch cannot gather uint16, but int16 has the same bits
        return _gather_pixels(pixels.view(torch.int16), source).view(torch.uint16)
    if pixels.numel() == source.numel():  # one channel: four times faster than along the last axis
        return pixels.reshape(-1).index_select(0, source).reshape(pixels.shape)
    return pixels.reshape(-1, source.numel()).index_select(1, source).reshape(pixels.shape)
