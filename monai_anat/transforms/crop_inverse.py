"""Inverses of crops, for MONAI's ``Invertd``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch.nn.functional as F
from monai.config import NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform
from torch import Tensor

from monai_anat.precision import at_least_float32
from monai_anat.transforms.array_kinds import plain_tensor, same_kind
from monai_anat.transforms.geometry import box_slices
from monai_anat.transforms.shared_draw import RandDictionaryForm

__all__ = ["RandBoxCropd", "paste_crop", "recorded_crop"]


def paste_crop(
    crop: NdarrayOrTensor, box: npt.NDArray[np.int64], spatial_shape: Sequence[int], mode: str = "bilinear"
) -> NdarrayOrTensor:
    """Paste a crop back to its position in an image that is 0 elsewhere.

    Args:
        crop: (C, h, w[, d]), resampled or not.
        box: (2, d), first corner and sides of the crop in the image, in pixels.
        spatial_shape: shape of the image without channels.
        mode: interpolation if the crop must be resized: "nearest", or any other name for linear.

    Returns:
        (C, H, W[, D]) of the kind and type of the crop. The affine of a MetaTensor becomes that of the image.

    >>> import torch
    >>> paste_crop(torch.ones(1, 1, 2), np.array([[1, 0], [1, 2]]), (3, 3)).tolist()
    [[[0.0, 0.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]]]
    """
    pixels = plain_tensor(crop)
    sides = tuple(int(side) for side in box[1])
    scale = np.asarray(pixels.shape[1:]) / box[1]
    if tuple(pixels.shape[1:]) != sides:
        pixels = _resize(pixels, sides, mode)
    image = pixels.new_zeros(len(pixels), *spatial_shape)
    image[box_slices(box)] = pixels
    # from a pixel of the image to a pixel of the crop; centers of pixels lie half a step inside
    index_map = np.column_stack([np.diag(scale), scale * (0.5 - box[0]) - 0.5])
    return same_kind(image, crop, index_map)


def _resize(pixels: Tensor, sides: tuple[int, ...], mode: str) -> Tensor:
    if mode == "nearest":
        return F.interpolate(at_least_float32(pixels)[None], sides, mode="nearest-exact")[0].to(pixels.dtype)
    linear = "bilinear" if len(sides) == 2 else "trilinear"
    return F.interpolate(at_least_float32(pixels)[None], sides, mode=linear, align_corners=False)[0].to(pixels.dtype)


class RandBoxCropd(RandDictionaryForm, InvertibleTransform):
    """Dictionary form of a random crop that can be inverted.

    The array transform keeps its draw as ``box``. The box is recorded in the images that are MetaTensors, as MONAI's
    crops do, so that ``Invertd`` puts a prediction back to its position. Pixels outside the crop become 0.

    Args:
        keys: keys of images (C, H, W[, D]) of the same spatial shape.
        arguments: positional arguments of the array transform.
        allow_missing_keys: if True, skip keys that the sample does not have.
        options: keyword arguments of the array transform.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Crop the images of one sample alike."""
        out = super().__call__(data)
        for key in self.key_iterator(out):
            if isinstance(out[key], MetaTensor):
                shape = tuple(data[key].shape[1:])
                box = getattr(self.transform, "box").tolist()  # noqa: B009  # every array transform of a box has it
                self.push_transform(  # type: ignore[no-untyped-call]
                    out[key], orig_size=shape, extra_info={"box": box, "mode": "bilinear"}
                )
        return out

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Paste the crops of one sample back to their positions.

        Raises:
            ValueError: if an image has no record of the crop.
        """
        out = dict(data)
        for key in self.key_iterator(out):
            record = recorded_crop(self, out[key], key)
            box = np.asarray(record["extra_info"]["box"], dtype=np.int64)
            mode = str(record["extra_info"]["mode"])
            out[key] = paste_crop(out[key], box, record["orig_size"], mode)
        return out


def recorded_crop(transform: InvertibleTransform, image: Any, key: Hashable) -> dict[str, Any]:
    """Take the record of a transform off an image.

    Args:
        transform: the transform to invert.
        image: the image, a MetaTensor.
        key: its key, for the message.

    Returns:
        The record that the transform pushed.

    Raises:
        ValueError: if the image is no MetaTensor.
    """
    if not isinstance(image, MetaTensor):
        raise ValueError(
            f"{type(transform).__name__} can invert {key!r} only if it is a MetaTensor, which records the crop, got "
            f"{type(image).__name__}; load it by LoadImaged, and leave MONAI's set_track_meta(True)"
        )
    record: dict[str, Any] = transform.pop_transform(image)
    return record
