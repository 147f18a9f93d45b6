"""The chain from a file to what a network sees, as one factory, so that every bundle loads radiographs alike.

Images may come through ``RadiographReader`` (upright, in [0, 1]) or, in clients that bring their own readers, through
MONAI's (transposed, in stored units): the chain reads orientation off the affine and gives the same picture either way.
Every geometric step can be undone, so that masks return to the geometry of the file (``Invertd``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import (
    CenterSpatialCropd,
    Compose,
    EnsureChannelFirstd,
    LoadImaged,
    NormalizeIntensityd,
    Transform,
)

from monai_anat.data.reading.geometry import OrientRadiographd, ResizeRadiographd, ScaleRadiographd
from monai_anat.data.reading.readers import RadiographReader
from monai_anat.keys import IMAGE
from monai_anat.transforms.borders import CropDarkBordersd

__all__ = [
    "FinishRadiographd",
    "radiograph_preprocessing",
]


class FinishRadiographd(Transform):
    """The last step: the number type, and metadata or not.

    Args:
        image_key: the radiograph, float in [0, 1].
        label_key: its mask, or None.
        as_uint8: store the radiograph in bytes, 255 for 1.
        metadata: leave MetaTensors, which inverting and saving need; else plain tensors, which collate faster.
    """

    def __init__(self, image_key: str, label_key: str | None, as_uint8: bool, metadata: bool) -> None:
        self.image_key, self.label_key, self.as_uint8, self.metadata = image_key, label_key, as_uint8, metadata

    def __call__(self, data: dict[str, Any]) -> dict[str, Any]:
        items = dict(data)
        for key in (self.image_key, self.label_key):
            if key is None or key not in items:
                continue
            value: torch.Tensor = torch.as_tensor(items[key])
            if key == self.image_key and self.as_uint8:
                value = (value * 255).round().clamp(0, 255).to(torch.uint8)
            items[key] = value.as_tensor() if isinstance(value, MetaTensor) and not self.metadata else value
        return items


def radiograph_preprocessing(
    size: int = 608,
    *,
    image_key: str = IMAGE,
    label_key: str | None = None,
    square: bool = False,
    crop: bool = True,
    as_uint8: bool = False,
    mean: float | None = None,
    std: float | None = None,
    metadata: bool = False,
    load: bool = True,
    order: str = "rows",
    crop_borders: bool = False,
    crop_labels: bool = True,
) -> Compose:
    """Make the loading chain of a bundle.

    Load, channel first, upright, [0, 1], resize by area (bilinear where the image is smaller and must grow, told once
    in the log), center crop, normalize. ``LoadImaged`` and ``EnsureChannelFirstd`` are steps of their own at the front,
    because clients such as MONAI Deploy take ``LoadImaged`` out and bring images themselves.

    Args:
        size: side of the result in pixels: 608 for PEAC's 448 px views, the image size itself for others.
        image_key: where the radiograph is.
        label_key: where a mask is; items without one pass. Masks keep their values and are resized by nearest
            neighbor.
        square: resize straight to (size, size), losing the aspect (POPAR); else the SHORT side becomes ``size``.
        crop: cut the center (size, size) out; without it the long side stays.
        as_uint8: give bytes, for view transforms that work by table and for caches a quarter the size.
        mean: subtracted in the end, in units of [0, 1]; with ``std``.
        std: divided by in the end.
        metadata: give MetaTensors (needed by ``Invertd`` and ``SaveImaged``); else plain tensors.
        load: False where items already hold (1, H, W) tensors.
        order: axis order of the loaded array, see :class:`RadiographReader`. With ``columns``, ``Invertd`` returns
            masks in the axis order of MONAI's writers and of the clients of a bundle. The result is the same.
        crop_borders: crop dark borders (collimation, air beside the patient) before resizing, see
            :class:`monai_anat.transforms.CropDarkBordersd`.
        crop_labels: crop masks as their radiograph, for training. False resizes masks whole, for scores of predictions
            that ``RestoreBordersd`` has put back.

    Returns:
        A ``Compose`` from items with paths to items with (1, size, size) tensors.

    Raises:
        ValueError: arguments that exclude each other.

    >>> from monai_anat.data import segmentation_datalist
    >>> chain = radiograph_preprocessing(64, label_key="label")
    >>> item = chain(segmentation_datalist("test")[0])
    >>> item["image"].shape, item["label"].shape, item["label"].unique().tolist()
    (torch.Size([1, 64, 64]), torch.Size([1, 64, 64]), [0.0, 1.0, 2.0])
    """
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel, got {size}")
    if (mean is None) != (std is None):
        raise ValueError(f"mean and std must be given together, got mean={mean} and std={std}")
    if as_uint8 and mean is not None:
        raise ValueError("as_uint8 keeps [0, 1] in bytes and excludes mean and std; normalize in the views transform")
    keys = [image_key] if label_key is None else [image_key, label_key]
    steps: list[Callable[..., Any]] = []
    if load:
        steps += [_loader([image_key], RadiographReader(order=order))]
        if label_key is not None:
            steps += [_loader([label_key], RadiographReader(label=True, order=order))]
        steps += [EnsureChannelFirstd(keys, channel_dim="no_channel", allow_missing_keys=True)]
    steps += [
        OrientRadiographd(keys, allow_missing_keys=True),
        ScaleRadiographd([image_key]),
        *([CropDarkBordersd(keys if crop_labels else [image_key], allow_missing_keys=True)] if crop_borders else []),
        ResizeRadiographd(
            keys, size, square=square, mode=("area", "nearest")[: len(keys)], allow_missing_keys=len(keys) > 1
        ),
    ]
    if crop and not square:
        steps += [CenterSpatialCropd(keys, (size, size), allow_missing_keys=True)]
    if mean is not None:
        steps += [NormalizeIntensityd([image_key], subtrahend=np.asarray(mean), divisor=np.asarray(std))]
    steps += [FinishRadiographd(image_key, label_key, as_uint8, metadata)]
    return Compose(steps)


def _loader(keys: list[str], reader: RadiographReader) -> LoadImaged:
    """``LoadImaged`` that asks our reader only: a file that it refuses must not be guessed at by the next one."""
    # MONAI takes an instance as well as a class, its annotation does not say so
    loader = LoadImaged(keys, reader=cast(Any, reader), image_only=True, allow_missing_keys=True)
    loader._loader.readers = [reader]
    loader._loader.auto_select = True
    return loader
