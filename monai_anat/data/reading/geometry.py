"""Transforms of the loading chain that move or scale pixels: upright, in [0, 1], at the size wanted, and back."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform, Resize
from monai.transforms.spatial.functional import resize
from monai.utils import TransformBackends, ensure_tuple_rep

from monai_anat.data.reading.decoding import is_plausible_aspect, scale_stored, to_gray
from monai_anat.data.reading.orientation import (
    Turn,
    check_order,
    columns_affine,
    picture_affine,
    turn_of,
    without_guess,
)
from monai_anat.data.reading.readers import MARK

__all__ = [
    "BACKENDS",
    "OrientRadiograph",
    "OrientRadiographd",
    "ResizeRadiograph",
    "ResizeRadiographd",
    "ScaleRadiographd",
]

logger = logging.getLogger(__name__)
BACKENDS = [TransformBackends.TORCH]
_FILENAME = "filename_or_obj"
# MONAI leaves this one without annotations
_resize: Any = resize


class OrientRadiograph(InvertibleTransform):
    """Turn a loaded picture (1, A, B) into rows and columns (1, H, W), by its affine.

    An axis of length one among three is dropped, a last axis of three or four colors becomes gray. Plain tensors, and
    MetaTensors that came from no file and have no affine to speak of, count as rows and columns already.

    Args:
        order: ``rows`` for rows first; ``columns`` for MONAI's own order, columns first, in which ``SaveImage`` writes
            PNG and NIfTI the right way up.

    Raises:
        ValueError: unknown order.
    """

    backend = BACKENDS

    def __init__(self, order: str = "rows") -> None:
        check_order(order)
        self.order = order

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        has_meta = isinstance(img, MetaTensor)
        affine = np.eye(4)
        if isinstance(img, MetaTensor):
            affine = without_guess(img.affine, img.meta.get("qform_code"), img.meta.get("sform_code"))
        values, dropped, kept = _plane(img.as_tensor() if isinstance(img, MetaTensor) else torch.as_tensor(img))
        plane_affine = affine[:, [*kept, -1]] if affine.shape[1] > max(kept) + 1 else affine
        # an image with a third axis comes from a reader of volumes, which puts columns first
        oriented = has_meta and (dropped is not None or _says_orientation(img, affine))
        turn = turn_of(plane_affine) if oriented else Turn()
        if turn.transpose:
            values = values.transpose(1, 2)
        flips = [axis for axis, flip in ((1, turn.flip_rows), (2, turn.flip_columns)) if flip]
        values = values.flip(flips) if flips else values
        values = values.transpose(1, 2) if self.order == "columns" else values
        if not isinstance(img, MetaTensor):
            return values
        lengths = [float(n) for n in np.linalg.norm(plane_affine[:-1, :2], axis=0)]
        row, column = reversed(lengths) if turn.transpose else lengths
        upright = picture_affine((row, column)) if self.order == "rows" else columns_affine((row, column))
        out = MetaTensor(
            values.contiguous(),
            affine=torch.as_tensor(upright),
            meta=_turned_meta(img, values),
            applied_operations=list(img.applied_operations),
        )
        info = {"turn": (turn.transpose, flips), "dropped": dropped, "affine": torch.as_tensor(affine)}
        push: Any = self.push_transform
        push(out, orig_size=tuple(img.shape[1:]), extra_info=info)
        return out

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """Turn (C, H, W) back to the axes of the file."""
        info = self.pop_transform(data)["extra_info"]
        transpose, flips = info["turn"]
        values = data.as_tensor() if isinstance(data, MetaTensor) else data
        values = values.transpose(1, 2) if self.order == "columns" else values
        values = values.flip(flips) if flips else values
        values = values.transpose(1, 2) if transpose else values
        values = values.unsqueeze(info["dropped"]) if info["dropped"] is not None else values
        if not isinstance(data, MetaTensor):
            return values
        return MetaTensor(
            values.contiguous(),
            affine=info["affine"],
            meta=_meta_of(data, values),
            applied_operations=list(data.applied_operations),
        )


class OrientRadiographd(MapTransform, InvertibleTransform):
    """Dictionary form of ``OrientRadiograph``.

    With ``order="columns"`` it goes in front of ``SaveImaged``, which writes columns first.

    Args:
        keys: what to turn.
        order: ``rows`` or ``columns``.
        allow_missing_keys: pass over keys that an item lacks.
    """

    backend = OrientRadiograph.backend

    def __init__(self, keys: KeysCollection, order: str = "rows", allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.orient = OrientRadiograph(order)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        items = dict(data)
        for key in self.key_iterator(items):
            items[key] = self.orient(items[key])
        return items

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Turn back to the axes of the file."""
        items = dict(data)
        for key in self.key_iterator(items):
            items[key] = self.orient.inverse(items[key])
        return items


class ScaleRadiographd(MapTransform):
    """Map a picture that another reader brought to [0, 1], bone bright; one that is so already passes.

    Pictures of ``RadiographReader`` pass. Others are scaled as ``read_radiograph`` scales files without a window; a
    DICOM file that MONAI's ``PydicomReader`` read as MONOCHROME1 is inverted (``ITKReader`` did that itself).

    Args:
        keys: what to scale.
        allow_missing_keys: pass over keys that an item lacks.
    """

    backend = BACKENDS

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


class ResizeRadiograph(Resize):
    """Resize (C, H, W) so that the SHORT side has a given length and the body keeps its proportions, or to a square.

    Shrinking averages over areas; growing is bilinear. Pixels that are not square count with their size in mm.
    ``Resize`` of MONAI knows the longest side only.

    Args:
        size: length of the short side in pixels.
        square: resize to (size, size) whatever the proportions.
        mode: interpolation; ``area`` becomes ``bilinear`` for images that must grow.
    """

    def __init__(self, size: int, square: bool = False, mode: str = "area") -> None:
        super().__init__(spatial_size=(size, size), mode=mode)
        self.size, self.square = size, square

    def target(self, img: torch.Tensor) -> tuple[int, int]:
        """Return the size (height, width) that an image (C, H, W) becomes."""
        height, width = float(img.shape[-2]), float(img.shape[-1])
        if self.square:
            return self.size, self.size
        if isinstance(img, MetaTensor):
            lengths = np.linalg.norm(np.asarray(img.affine, dtype=np.float64)[:-1, :2], axis=0)
            if is_plausible_aspect(float(lengths[0]), float(lengths[1])):
                height, width = height * lengths[0], width * lengths[1]
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
        """Resize back; what was shrunk by area grows bilinearly, since ``area`` would grow it in blocks."""
        extra = dict(transform["extra_info"])
        if extra["mode"] == "area":
            extra.update(mode="bilinear", align_corners=False)
        restored: torch.Tensor = super().inverse_transform(data, {**transform, "extra_info": extra})
        return restored


class ResizeRadiographd(MapTransform, InvertibleTransform):
    """Dictionary form of ``ResizeRadiograph``: all keys become the size that the first one asks for.

    Args:
        keys: what to resize; the first is the radiograph.
        size: length of the short side in pixels.
        square: resize to (size, size) whatever the proportions.
        mode: interpolation per key; ``nearest`` for masks.
        allow_missing_keys: pass over keys that an item lacks.
    """

    backend = BACKENDS

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
        self._told = False

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        items = dict(data)
        target: tuple[int, int] | None = None
        for key, mode in self.key_iterator(items, self.mode):
            if target is None:
                target = self.resizer.target(items[key])
                self._tell_growth(tuple(items[key].shape[-2:]))
            items[key] = self.resizer(items[key], target, mode)
        return items

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Resize back to the size of the file."""
        items = dict(data)
        for key in self.key_iterator(items):
            items[key] = self.resizer.inverse(items[key])
        return items

    def _tell_growth(self, shape: tuple[int, ...]) -> None:
        if min(shape) < self.resizer.size and not self._told:
            self._told = True
            logger.warning(
                "images smaller than size=%d are grown (first seen: %d x %d pixels); grown images hold no more detail, "
                "so a smaller size would train as well and faster. Told once.",
                self.resizer.size,
                *shape,
            )


def _turned_meta(image: MetaTensor, values: torch.Tensor) -> dict[str, Any]:
    """Metadata of an upright image: ``spatial_shape`` stays that of the file, as in MONAI, where both have two axes.

    Clients such as MONAI Label resize a mask to this shape.
    """
    meta = _meta_of(image, values)
    stored = image.meta.get("spatial_shape")
    return {**meta, "spatial_shape": np.asarray(stored)} if stored is not None and len(stored) == 2 else meta


def _meta_of(image: MetaTensor, values: torch.Tensor) -> dict[str, Any]:
    """Metadata for turned values, whose affine is given beside them; MONAI's writers tell the channel by this shape."""
    meta = {key: value for key, value in image.meta.items() if key != "affine"}
    return {**meta, "spatial_shape": np.asarray(values.shape[1:])}


def _plane(values: torch.Tensor) -> tuple[torch.Tensor, int | None, list[int]]:
    """(C, A, B), the axis that was dropped (counted with the channel) or None, and the spatial axes that are left."""
    while values.ndim > 4 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim == 3:
        return values, None, [0, 1]
    if values.ndim == 4 and 1 in values.shape[1:]:
        dropped = 1 + max(axis for axis in range(3) if values.shape[1 + axis] == 1)
        return values.squeeze(dropped), dropped, [axis for axis in range(3) if axis != dropped - 1]
    if values.ndim == 4 and values.shape[-1] in (3, 4):
        return torch.as_tensor(to_gray(values.cpu().numpy())), None, [0, 1]
    raise ValueError(
        f"a radiograph must have shape (1, A, B), (1, A, B, 1) or (1, A, B, 3), got {tuple(values.shape)}; "
        "volumes need a chain of their own"
    )


def _says_orientation(img: torch.Tensor, affine: np.ndarray) -> bool:
    """Whether a MetaTensor's affine was meant: it is not the default one, or it came with a file that is no array."""
    meta: Mapping[str, Any] = getattr(img, "meta", {})
    name = str(meta.get(_FILENAME, ""))
    if MARK in meta:
        return True
    if name.endswith((".npy", ".npz")):
        return False
    return bool(name) or not np.array_equal(affine, np.eye(affine.shape[0]))


def _is_monochrome1(meta: Mapping[str, Any]) -> bool:
    """Whether a picture of a foreign reader still shows bone dark."""
    if "0028|0004" in meta:  # ITK's own spelling: its reader has inverted already
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
