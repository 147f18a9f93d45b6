"""Conversion between arrays, tensors and MetaTensors around one tensor implementation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

__all__ = ["BACKENDS", "plain_tensor", "same_kind", "unit_range"]

#: backends of every transform of this package
BACKENDS: list[TransformBackends] = [TransformBackends.TORCH, TransformBackends.NUMPY]
#: largest value of each unsigned type in which images are stored
_FULL_SCALE = {torch.uint8: 255, torch.uint16: 65535}


def plain_tensor(img: NdarrayOrTensor) -> Tensor:
    """Convert an image to a plain tensor, without a copy if possible.

    A MetaTensor dispatches every operation through Python, which often costs more than the operation itself. Transforms
    therefore work on plain tensors and restore the kind of the input with :func:`same_kind`. Read-only (memory-mapped)
    arrays and arrays in another byte order are copied.

    Args:
        img: array, tensor or MetaTensor of any shape.

    Returns:
        Tensor of the same shape, type and device.

    Raises:
        TypeError: if the input is neither an array nor a tensor.

    >>> plain_tensor(np.zeros((1, 2, 2), np.uint8)).dtype
    torch.uint8
    """
    if isinstance(img, MetaTensor):
        bare: Tensor = img.as_tensor()
        return bare
    if isinstance(img, Tensor):
        return img
    if isinstance(img, np.ndarray):
        # torch warns about read-only memory, and rejects negative strides and foreign byte orders
        shareable = img.flags.writeable and img.dtype.isnative and all(stride >= 0 for stride in img.strides)
        return torch.from_numpy(img if shareable else np.array(img, img.dtype.newbyteorder("="), order="C"))
    raise TypeError(f"img must be a numpy array or a tensor, got {type(img).__name__}; load it first")


def same_kind(
    result: Tensor, img: NdarrayOrTensor, index_map: npt.NDArray[np.float64] | None = None
) -> NdarrayOrTensor:
    """Convert a result to the kind of its input; a MetaTensor keeps its metadata.

    Args:
        result: plain tensor.
        img: input of the transform.
        index_map: (d, d + 1), source in the input of a pixel of the result, ``index_map @ (*pixel, 1)``. It updates the
            affine of a MetaTensor; None keeps the affine.

    Returns:
        The result as the kind of ``img``, in its own data type.

    >>> type(same_kind(torch.zeros(1, 2, 2), np.ones((1, 2, 2)))).__name__
    'ndarray'
    """
    if isinstance(img, MetaTensor):
        wrapped: MetaTensor = convert_to_dst_type(result, dst=img, dtype=result.dtype)[0]
        if index_map is not None:
            dims = len(index_map)
            to_input = np.eye(4)
            to_input[:dims, :dims], to_input[:dims, 3] = index_map[:, :dims], index_map[:, dims]
            wrapped.affine = img.affine @ torch.from_numpy(to_input).to(img.affine)
        return wrapped
    return result.numpy() if isinstance(img, np.ndarray) else result


def unit_range(pixels: Tensor) -> Tensor:
    """Convert intensities to floats in [0, 1]: divide unsigned integers by 255 or 65,535, and keep floats.

    Args:
        pixels: tensor of any shape.

    Returns:
        float32 for unsigned integers; the input itself for floats.

    Raises:
        TypeError: if the type is a signed integer or boolean, whose full scale is unknown.

    >>> unit_range(torch.tensor([0, 51, 255], dtype=torch.uint8))
    tensor([0.0000, 0.2000, 1.0000])
    """
    if pixels.is_floating_point():
        return pixels
    if pixels.dtype not in _FULL_SCALE:
        raise TypeError(
            f"img must be uint8, uint16 or floating point, got {pixels.dtype}; "
            "scale it to [0, 1] first, e.g. by ScaleIntensityRanged"
        )
    return pixels.to(torch.float32).div_(_FULL_SCALE[pixels.dtype])
