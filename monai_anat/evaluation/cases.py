"""Labelled images read once and kept in memory, at the size at which they are evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from ..data import DatalistError
from ..keys import IMAGE, LABEL

__all__ = ["SegmentationCases", "load_cases"]


@dataclass(frozen=True)
class SegmentationCases:
    """Images and masks of one split, as tensors.

    Attributes:
        images: (N, 1, S, S) float32 in [0, 1].
        labels: (N, S, S) uint8 class numbers.
        names: file name of each image.
        patients: patient of each image; the file name where the list has none.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    patients: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, names: Sequence[str]) -> SegmentationCases:
        """The cases of these file names, in this order.

        Raises:
            KeyError: naming the first file that is not there.
        """
        where = {name: index for index, name in enumerate(self.names)}
        missing = [name for name in names if name not in where]
        if missing:
            raise KeyError(f"names must be files of these cases, got {missing[0]!r}; there are {len(self)} files")
        chosen = [where[name] for name in names]
        return SegmentationCases(
            self.images[chosen], self.labels[chosen], tuple(names), tuple(self.patients[index] for index in chosen)
        )


def load_cases(datalist: Sequence[Mapping[str, Any]], image_size: int) -> SegmentationCases:
    """Read images and masks of a MONAI datalist: long side to ``image_size``, aspect kept, padded to a square by 0.

    Args:
        datalist: items ``{"image": path, "label": path, ...}``; labels are images of class numbers.
        image_size: side in pixels.

    Raises:
        DatalistError: if an item has no label, or a label another size than its image.

    >>> from monai_anat.data import segmentation_datalist
    >>> cases = load_cases(segmentation_datalist("validation")[:2], 64)
    >>> cases.images.shape, cases.labels.unique().tolist()
    (torch.Size([2, 1, 64, 64]), [0, 1, 2])
    """
    if not datalist:
        raise DatalistError("datalist must hold at least one item, got none; look at the split's name")
    images, labels = [], []
    for item in datalist:
        if not item.get(LABEL):
            raise DatalistError(f"every item must have a {LABEL!r}, got only {sorted(item)} for {item.get(IMAGE)}")
        pixels, mask = _read(item[IMAGE]) / 255.0, _read(item[LABEL])
        if pixels.shape != mask.shape:
            raise DatalistError(
                f"{item[LABEL]} must have the size of its image, got {mask.shape} for {pixels.shape} (rows, columns)"
            )
        images.append(_fit(pixels, image_size, "area"))
        labels.append(_fit(mask, image_size, "nearest-exact").to(torch.uint8))
    return SegmentationCases(
        torch.stack(images),
        torch.cat(labels),
        tuple(Path(str(item[IMAGE])).name for item in datalist),
        tuple(str(item.get("patient") or Path(str(item[IMAGE])).name) for item in datalist),
    )


def _read(path: Any) -> Tensor:
    with Image.open(path) as picture:
        return torch.from_numpy(np.asarray(picture.convert("L"), dtype=np.float32))  # (H, W)


def _fit(pixels: Tensor, image_size: int, mode: str) -> Tensor:
    """(H, W) -> (1, S, S)"""
    factor = image_size / max(pixels.shape)
    height, width = (max(1, round(side * factor)) for side in pixels.shape)
    if mode == "area" and factor < 1:
        resized = F.interpolate(pixels[None, None], size=(height, width), mode="bilinear", antialias=True)[0]
    else:
        resized = F.interpolate(pixels[None, None], size=(height, width), mode="bilinear" if mode == "area" else mode)[
            0
        ]
    down, across = image_size - height, image_size - width
    return F.pad(resized, (across // 2, across - across // 2, down // 2, down - down // 2))
