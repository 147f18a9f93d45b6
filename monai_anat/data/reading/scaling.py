"""``ScaleRadiographd``: gray values of images from any reader, scaled to [0, 1]."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import TransformBackends

from monai_anat.data.reading.gray_levels import scale_stored
from monai_anat.data.reading.readers import MARK

__all__ = ["ScaleRadiographd"]

_BACKENDS = [TransformBackends.TORCH]
_FILENAME = "filename_or_obj"


class ScaleRadiographd(MapTransform):
    """Scale images from other readers to [0, 1], bone bright.

    Images from ``RadiographReader`` pass unchanged. Others are scaled as ``read_radiograph`` scales files without a
    display window. A MONOCHROME1 DICOM file from MONAI's ``PydicomReader`` is inverted (``ITKReader`` has inverted it
    already).

    Args:
        keys: keys of the images.
        allow_missing_keys: skip keys that an item lacks.
    """

    backend = _BACKENDS

    def __init__(self, keys: KeysCollection, allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        items = dict(data)
        for key in self.key_iterator(items):
            image = items[key]
            meta: Mapping[str, Any] = image.meta if isinstance(image, MetaTensor) else {}
            if MARK in meta:
                continue
            scaled, _ = scale_stored(np.asarray(torch.as_tensor(image).cpu()))
            out = torch.as_tensor(1 - scaled if _is_monochrome1(meta) else scaled)
            items[key] = out
            if isinstance(image, MetaTensor):
                items[key] = MetaTensor(out, meta=dict(meta), applied_operations=list(image.applied_operations))
        return items


def _is_monochrome1(meta: Mapping[str, Any]) -> bool:
    """Whether an image from another reader still shows bone dark."""
    if "0028|0004" in meta:  # written by ITKReader, which has inverted the image
        return False
    for key in ("00280004", "PhotometricInterpretation"):
        if key in meta:
            return "MONOCHROME1" in str(meta[key])
    path = Path(str(meta.get(_FILENAME, "")))
    if not path.is_file():
        return False
    with path.open("rb") as handle:
        if handle.read(132)[128:] != b"DICM":
            return False
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["PhotometricInterpretation"])
    return "MONOCHROME1" in str(header.get("PhotometricInterpretation", ""))
