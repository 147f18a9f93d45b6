"""Resizing of radiographs to a network's input size, without distortion or to a square, and back."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Resize
from monai.transforms.spatial.functional import resize
from monai.utils import TransformBackends, ensure_tuple_rep

from monai_anat.data.reading.decoded import is_plausible_aspect, is_strip

__all__ = ["ResizeRadiograph", "ResizeRadiographd"]

_BACKENDS = [TransformBackends.TORCH]
logger = logging.getLogger(__name__)
# MONAI's function has no annotations
_resize: Any = resize


class ResizeRadiograph(Resize):
    """Resize (C, H, W) to a given length of the SHORT side, keeping proportions, or to a square.

    Shrinking averages over areas, enlarging is bilinear. Pixels that are not square count with their size in mm.
    MONAI's ``Resize`` can only fix the longest side.

    Args:
        size: length of the short side in pixels.
        square: resize to (size, size) regardless of the proportions.
        mode: interpolation. ``area`` becomes ``bilinear`` for images that must be enlarged.
    """

    def __init__(self, size: int, square: bool = False, mode: str = "area") -> None:
        super().__init__(spatial_size=(size, size), mode=mode)
        self.size, self.square = size, square

    def target(self, img: torch.Tensor) -> tuple[int, int]:
        """Return the size (height, width) after resizing.

        Args:
            img: image (C, H, W).

        Raises:
            ValueError: if the image is a strip, more than four times as long as wide. The message names its file.
        """
        height, width = float(img.shape[-2]), float(img.shape[-1])
        if isinstance(img, MetaTensor):
            lengths = np.linalg.norm(np.asarray(img.affine, dtype=np.float64)[:-1, :2], axis=0)
            if is_plausible_aspect(float(lengths[0]), float(lengths[1])):
                height, width = height * lengths[0], width * lengths[1]
        if is_strip(height, width):
            name = str(img.meta.get("filename_or_obj", "")) if isinstance(img, MetaTensor) else ""
            raise ValueError(
                f"{name or 'an image'} is a strip: {img.shape[-2]} x {img.shape[-1]} pixels; a radiograph is at most "
                "four times as long as wide, so remove the file or crop it"
            )
        if self.square:
            return self.size, self.size
        scale = self.size / min(height, width)
        return max(self.size, round(height * scale)), max(self.size, round(width * scale))

    def __call__(  # type: ignore[override]
        self, img: torch.Tensor, target: tuple[int, int] | None = None, mode: str | None = None
    ) -> torch.Tensor:
        goal = target or self.target(img)
        chosen = mode or self.mode
        if chosen == "area" and (goal[0] > img.shape[-2] or goal[1] > img.shape[-1]):
            chosen = "bilinear"
        corners = False if chosen == "bilinear" else None
        info = self.get_transform_info()
        out: torch.Tensor = _resize(img, goal, chosen, corners, torch.float32, 2, False, None, False, info)
        return out

    def inverse_transform(self, data: torch.Tensor, transform: dict[str, Any]) -> torch.Tensor:
        """Resize back. Images that were shrunk by area are enlarged bilinearly, without the blocks of ``area``."""
        extra = dict(transform["extra_info"])
        if extra["mode"] == "area":
            extra.update(mode="bilinear", align_corners=False)
        restored: torch.Tensor = super().inverse_transform(data, {**transform, "extra_info": extra})
        return restored


class ResizeRadiographd(MapTransform, InvertibleTransform):
    """Dictionary form of ``ResizeRadiograph``. All keys are resized to the size of the first one.

    Args:
        keys: keys to resize; the first one holds the radiograph.
        size: length of the short side in pixels.
        square: resize to (size, size) regardless of the proportions.
        mode: interpolation per key; ``nearest`` for masks.
        allow_missing_keys: skip keys that an item lacks.
    """

    backend = _BACKENDS

    def __init__(
        self,
        keys: KeysCollection,
        size: int,
        square: bool = False,
        mode: str | Sequence[str] = "area",
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.mode = ensure_tuple_rep(mode, len(self.keys))
        self.resizer = ResizeRadiograph(size, square)
        self._has_warned = False

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        items = dict(data)
        target: tuple[int, int] | None = None
        for key, mode in self.key_iterator(items, self.mode):
            if target is None:
                target = self.resizer.target(items[key])
                self._warn_of_enlarging(tuple(items[key].shape[-2:]))
            items[key] = self.resizer(items[key], target, mode)
        return items

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Resize back to the size of the file."""
        items = dict(data)
        for key in self.key_iterator(items):
            items[key] = self.resizer.inverse(items[key])
        return items

    def _warn_of_enlarging(self, shape: tuple[int, ...]) -> None:
        if min(shape) < self.resizer.size and not self._has_warned:
            self._has_warned = True
            logger.warning(
                "images smaller than size=%d are enlarged (first seen: %d x %d pixels); enlarging adds no detail, so a "
                "smaller size trains as well and faster. This is logged once.",
                self.resizer.size,
                *shape,
            )
