"""Loading chain of all bundles: from a file to the input of a network.

Images come through ``RadiographReader`` (gray values in [0, 1]) or, in clients with their own readers, through MONAI's
readers (transposed, in stored units). The chain reads the orientation from the affine and returns the same picture in
both cases. Every geometric step is invertible, so that ``Invertd`` returns predictions to the geometry of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
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

from monai_anat.data.reading.readers import RadiographReader
from monai_anat.data.reading.resizing import ResizeRadiographd
from monai_anat.data.reading.scaling import ScaleRadiographd
from monai_anat.data.reading.upright import OrientRadiographd
from monai_anat.keys import IMAGE
from monai_anat.transforms.borders import CropDarkBordersd

__all__ = [
    "FinishRadiographd",
    "radiograph_preprocessing",
]


class FinishRadiographd(Transform):
    """Convert to the final number type, with or without metadata.

    Args:
        image_key: key of the radiograph, float in [0, 1].
        label_key: key of its mask, or None.
        as_uint8: convert the radiograph to bytes, with 255 for 1.
        metadata: return MetaTensors, which inverting and saving need. False returns plain tensors, which collate
            faster.
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
    mask_values: Mapping[Any, int] | None = None,
) -> Compose:
    """Make the loading chain of a bundle.

    The steps are: load, channel first, upright, scale to [0, 1], resize by area (bilinear if the image must be
    enlarged, which is logged once), center crop, normalize. Image and mask are turned together, see
    ``OrientRadiographd``. ``LoadImaged`` and ``EnsureChannelFirstd`` are separate first steps, because clients such as
    MONAI Deploy remove ``LoadImaged`` and load the images themselves.

    Args:
        size: side of the result in pixels: 608 for PEAC's 448 px views, the image size of other methods.
        image_key: key of the radiograph.
        label_key: key of the mask: a file of class numbers, or a list of binary masks such as ``[right, left]``, which
            become classes 1, 2, ... Items without a mask are accepted. Masks are resized by nearest neighbor.
        square: resize directly to (size, size) and lose the aspect ratio (POPAR). False resizes the SHORT side.
        crop: crop the center (size, size). False keeps the long side.
        as_uint8: return bytes, for view transforms that work by table, and for caches of a quarter of the size.
        mean: subtracted at the end, in units of [0, 1]. Needs ``std``.
        std: divisor at the end.
        metadata: return MetaTensors, which ``Invertd`` and ``SaveImaged`` need. False returns plain tensors.
        load: set to False if items already hold (1, H, W) tensors.
        order: axis order of the loaded array, see :class:`RadiographReader`. With ``columns``, ``Invertd`` returns
            masks in the axis order of MONAI's writers and of the clients of a bundle. The result is the same.
        crop_borders: crop dark borders (collimation, air beside the patient) before resizing, see
            :class:`monai_anat.transforms.CropDarkBordersd`.
        crop_labels: crop masks as their radiograph, for training. False resizes masks whole, for scores of predictions
            that ``RestoreBordersd`` has put back.
        mask_values: stored value -> class number of masks, such as ``{255: 1}``.

    Returns:
        A ``Compose`` from items with paths to items with (1, size, size) tensors.

    Raises:
        ValueError: if arguments exclude each other.

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
            steps += [_loader([label_key], RadiographReader(label=True, mask_values=mask_values, order=order))]
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
    """``LoadImaged`` with this reader alone, so that MONAI's other readers do not try files that it refuses."""
    # MONAI accepts an instance as well as a class, but annotates only the class
    loader = LoadImaged(keys, reader=cast(Any, reader), image_only=True, allow_missing_keys=True)
    loader._loader.readers = [reader]
    loader._loader.auto_select = True
    return loader
