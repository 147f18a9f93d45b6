"""Labeled images in memory, at the size of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from monai_anat.data.items import DatalistError, transform_item
from monai_anat.data.reading.preprocessing import radiograph_preprocessing
from monai_anat.data.reading.readers import PIXEL_SPACING
from monai_anat.data.reading.upright import UPRIGHT_SHAPE
from monai_anat.evaluation.patients import file_names, patients_of
from monai_anat.keys import IMAGE, LABEL

__all__ = ["SegmentationCases", "load_cases"]


@dataclass(frozen=True)
class SegmentationCases:
    """Images and masks of one split, as tensors.

    Attributes:
        images: (N, 1, S, S) float32 in [0, 1].
        labels: (N, S, S) uint8 class numbers.
        names: file name of each image; its path if two files have the same name.
        patients: patient of each image; the file name if the list has none.
        spacings: (N, 2) height and width in mm of a pixel of ``labels``, NaN if unknown.
    """

    images: Tensor
    labels: Tensor
    names: tuple[str, ...]
    patients: tuple[str, ...]
    spacings: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.names)

    def take(self, names: Sequence[str]) -> SegmentationCases:
        """Select cases by file name, in the given order.

        Raises:
            KeyError: if there is no such file.
        """
        where = {name: index for index, name in enumerate(self.names)}
        missing = [name for name in names if name not in where]
        if missing:
            raise KeyError(f"names must be files of these cases, got {missing[0]!r}; there are {len(self)} files")
        chosen = [where[name] for name in names]
        return SegmentationCases(
            self.images[chosen],
            self.labels[chosen],
            tuple(names),
            tuple(self.patients[index] for index in chosen),
            self.spacings[chosen],
        )


def load_cases(datalist: Sequence[Mapping[str, Any]], image_size: int, label_key: str = LABEL) -> SegmentationCases:
    """Read images and masks of a MONAI datalist with the loading chain of the bundles, resized to a square.

    Args:
        datalist: items ``{"image": path, "label": path, ...}``. Labels are masks of class numbers, or a list with one
            binary mask per class, such as ``[right, left]``.
        image_size: side in pixels.
        label_key: key of the mask in the items.

    Raises:
        DatalistError: if the list is empty, a file cannot be read, an item has no label, or a label differs in size
            from its image.

    >>> from monai_anat.data import segmentation_datalist
    >>> cases = load_cases(segmentation_datalist("validation")[:2], 64)
    >>> cases.images.shape, cases.labels.unique().tolist()
    (torch.Size([2, 1, 64, 64]), [0, 1, 2])
    """
    if not datalist:
        raise DatalistError("datalist must hold at least one item, got none; look at the split's name")
    chain = radiograph_preprocessing(image_size, label_key=label_key, square=True, metadata=True)
    images, labels, spacings = [], [], []
    for item in datalist:
        if not item.get(label_key):
            raise DatalistError(f"every item must have a {label_key!r}, got only {sorted(item)} for {item.get(IMAGE)}")
        loaded = transform_item(chain, item)
        sizes = [tuple(int(side) for side in loaded[key].meta[UPRIGHT_SHAPE]) for key in (IMAGE, label_key)]
        if sizes[0] != sizes[1]:
            raise DatalistError(
                f"{item[label_key]} must have the size of its image, got {sizes[1]} for {sizes[0]} (rows, columns)"
            )
        images.append(loaded[IMAGE].as_tensor())
        spacings.append(_spacing(loaded[IMAGE].meta, sizes[0], image_size))
        labels.append(loaded[label_key].as_tensor().round().to(torch.uint8)[0])
    return SegmentationCases(
        torch.stack(images),
        torch.stack(labels),
        tuple(file_names(datalist)),
        tuple(patients_of(datalist)),
        np.array(spacings),
    )


def _spacing(meta: Mapping[str, Any], shape: tuple[int, ...], image_size: int) -> NDArray[np.float64]:
    """Height and width in mm of a pixel after an image of ``shape`` is resized to a square."""
    if not meta["spacing_known"]:
        return np.full(2, np.nan)
    spacing: NDArray[np.float64] = np.asarray(meta[PIXEL_SPACING]) * np.array(shape) / image_size
    return spacing
