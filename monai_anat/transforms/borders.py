"""Dark borders of radiographs: find, crop and restore them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from monai.config import KeysCollection, NdarrayOrTensor
from monai.data import MetaTensor
from monai.transforms import Crop, InvertibleTransform, MapTransform
from torch import Tensor
from torch.nn import functional as F

from monai_anat.transforms.array_kinds import BACKENDS, plain_tensor, same_kind, unit_range

__all__ = ["CropDarkBordersd", "RestoreBordersd", "dark_border_box"]


def dark_border_box(
    image: NdarrayOrTensor, level: float = 0.06, share: float = 0.04, min_side: float = 0.4
) -> tuple[slice, ...]:
    """Find the part of a radiograph inside its dark borders.

    A row or column is dark if at most ``share`` of its pixels are brighter than ``level``, so that a burned-in letter
    does not keep a border. Only dark rows and columns that reach an edge are removed; columns are judged within the
    rows that remain. Lungs are never removed for being dark: every row and column through them crosses bright tissue.

    Args:
        image: radiograph (C, H, W[, D]), gray values of its type's unit range, air dark; channels are averaged.
        level: gray value up to which a pixel counts as dark.
        share: largest share of brighter pixels in a dark row or column.
        min_side: smallest share of a side that may remain. An image that would lose more is not cropped along that
            axis: it is rather an under-exposed image than one with borders.

    Returns:
        For each axis the slice that remains.

    >>> import torch
    >>> image = torch.zeros(1, 10, 10)
    >>> image[:, 2:9, 1:8] = 0.5
    >>> dark_border_box(image)
    (slice(2, 9, None), slice(1, 8, None))
    """
    bright = (unit_range(plain_tensor(image)).float().mean(0) > level).float()
    box = [slice(None)] * bright.ndim
    for axis in range(bright.ndim):
        others = [other for other in range(bright.ndim) if other != axis]
        box[axis] = _bright_range(bright[tuple(box)].mean(others) > share, min_side)
    return tuple(box)


def _bright_range(keep: Tensor, min_side: float) -> slice:
    """From the first to the last line to keep, or all lines where too few would remain."""
    lines = keep.nonzero().flatten().tolist()
    length = len(keep)
    if not lines or lines[-1] + 1 - lines[0] < min_side * length:
        return slice(0, length)
    return slice(lines[0], lines[-1] + 1)


class CropDarkBordersd(MapTransform, InvertibleTransform):
    """Crop dark borders (collimation, padding, air beside the patient), found on the first key, from all keys.

    The inverse pads with 0, which is background in probabilities and in masks. It needs MetaTensors, which record the
    crop.

    Args:
        keys: images (C, H, W[, D]); the first is the radiograph in [0, 1] that the borders are found on.
        level: see :func:`dark_border_box`.
        share: see :func:`dark_border_box`.
        min_side: see :func:`dark_border_box`.
        allow_missing_keys: ignore keys that an item lacks.

    >>> import torch
    >>> image = MetaTensor(torch.zeros(1, 10, 10))
    >>> image[:, 2:9, 1:8] = 0.5
    >>> crop = CropDarkBordersd("image")
    >>> cropped = crop({"image": image})
    >>> cropped["image"].shape, crop.inverse(cropped)["image"].shape
    (torch.Size([1, 7, 7]), torch.Size([1, 10, 10]))
    """

    backend = BACKENDS

    def __init__(
        self,
        keys: KeysCollection,
        level: float = 0.06,
        share: float = 0.04,
        min_side: float = 0.4,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.level, self.share, self.min_side = level, share, min_side
        self.cropper = Crop()

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        items = dict(data)
        box: tuple[slice, ...] | None = None
        for key in self.key_iterator(items):
            image = items[key]
            box = box or dark_border_box(image, self.level, self.share, self.min_side)
            if isinstance(image, MetaTensor):
                items[key] = self.cropper(image, box)
            else:
                items[key] = same_kind(plain_tensor(image)[(slice(None), *box)].clone(), image)
        return items

    def inverse(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Pad back to the size before the crop."""
        items = dict(data)
        for key in self.key_iterator(items):
            items[key] = self.cropper.inverse(items[key])
        return items


class RestoreBordersd(MapTransform):
    """Place a prediction for a cropped and resized radiograph where it belongs in the whole, resized radiograph.

    Scores need the prediction on the grid of a mask that was resized whole. Bilinear; 0 outside the crop. A prediction
    for an image without dark borders stays bit for bit.

    Args:
        keys: probabilities (C, S, T).
        ref_key: the network's input as MetaTensor, whose record of transforms has the crop of
            :class:`CropDarkBordersd`.
        allow_missing_keys: ignore keys that an item lacks.

    >>> import torch
    >>> image = MetaTensor(torch.nn.functional.pad(torch.ones(1, 4, 4), (2, 2)))
    >>> item = CropDarkBordersd("image")({"image": image})
    >>> RestoreBordersd("pred")({**item, "pred": torch.ones(1, 4, 4)})["pred"][0, 0].tolist()
    [0.0, 1.0, 1.0, 0.0]
    """

    backend = BACKENDS

    def __init__(self, keys: KeysCollection, ref_key: str = "image", allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.ref_key = ref_key

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        items = dict(data)
        margins = _crop_margins(items[self.ref_key])
        for key in self.key_iterator(items):
            if margins is not None:
                items[key] = _restore(plain_tensor(items[key]), *margins)
        return items


def _crop_margins(image: Any) -> tuple[list[int], tuple[int, int]] | None:
    """Pixels cropped at the top, bottom, left and right, and the size before; None where nothing was cropped."""
    for operation in image.applied_operations if isinstance(image, MetaTensor) else ():
        cropped = operation.get("extra_info", {}).get("cropped")
        if operation.get("class") == Crop.__name__ and cropped is not None and any(int(n) for n in cropped):
            height, width = (int(side) for side in operation["orig_size"])
            return [int(n) for n in cropped], (height, width)
    return None


def _restore(prediction: Tensor, margins: list[int], size: tuple[int, int]) -> Tensor:
    """(C, S, T) of the crop -> (C, S, T) of the whole image, margins and size in pixels before resizing."""
    sides = (prediction.shape[-2], prediction.shape[-2], prediction.shape[-1], prediction.shape[-1])
    lengths = (size[0], size[0], size[1], size[1])
    top, bottom, left, right = (
        round(margin * side / length) for margin, side, length in zip(margins, sides, lengths, strict=True)
    )
    inner = [max(1, sides[0] - top - bottom), max(1, sides[2] - left - right)]
    resized = F.interpolate(prediction[None].float(), size=inner, mode="bilinear", align_corners=False)[0]
    return F.pad(resized, (left, sides[2] - left - inner[1], top, sides[0] - top - inner[0]))
