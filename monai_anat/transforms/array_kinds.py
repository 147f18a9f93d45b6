"""What goes in comes out: array, tensor or MetaTensor around one tensor implementation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor
from monai.utils import TransformBackends, convert_to_dst_type
from torch import Tensor

__all__ = ["BACKENDS", "plain_tensor", "same_kind", "unit_range"]

#: what every transform of this room declares: arrays and tensors alike
BACKENDS: list[TransformBackends] = [TransformBackends.TORCH, TransformBackends.NUMPY]
#: the largest code of each unsigned type that images are stored in
_FULL_SCALE = {torch.uint8: 255, torch.uint16: 65535}


def plain_tensor(img: NdarrayOrTensor) -> Tensor:
    """The pixels as a plain tensor that shares memory with the input where it can.

    A MetaTensor runs every operation through Python, which costs more than the operation; so the pixels are worked
    on bare and wrapped again at the end by :func:`same_kind`. A read-only (memory-mapped) array is copied, and so is
    one in the byte order of another machine, as some files of volumes have it.

    Args:
        img: array, tensor or MetaTensor of any shape.

    Returns:
        Tensor of the same shape, type and device.

    Raises:
        TypeError: for anything else.

    >>> plain_tensor(np.zeros((1, 2, 2), np.uint8)).dtype
    torch.uint8
    """
    if isinstance(img, MetaTensor):
        bare: Tensor = img.as_tensor()
        return bare
    if isinstance(img, Tensor):
        return img
    if isinstance(img, np.ndarray):
        # torch warns at read-only memory, and refuses negative strides and the byte order of other machines
        shareable = img.flags.writeable and img.dtype.isnative and all(stride >= 0 for stride in img.strides)
        return torch.from_numpy(img if shareable else np.array(img, img.dtype.newbyteorder("="), order="C"))
    raise TypeError(f"img must be a numpy array or a tensor, got {type(img).__name__}; load it first")


def same_kind(
    result: Tensor, img: NdarrayOrTensor, index_map: npt.NDArray[np.float64] | None = None
) -> NdarrayOrTensor:
    """Wrap a result as its input was: array to array, MetaTensor to MetaTensor with the same metadata.

    Args:
        result: plain tensor.
        img: the input that it was made from.
        index_map: (d, d + 1), where in the input a pixel of the result comes from: ``index_map @ (*pixel, 1)``. It
            moves the affine of a MetaTensor; None leaves the affine as it is.

    Returns:
        The result, in its own type, as the kind of ``img``.

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
    """Gray levels as floats in [0, 1]: unsigned codes are divided by 255 or 65,535, floats stay what they are.

    Args:
        pixels: tensor of any shape.

    Returns:
        float32 for unsigned integers; the input itself for floats.

    Raises:
        TypeError: for signed integers and booleans, whose full scale is not known.

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
