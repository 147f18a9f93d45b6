"""Orientation transforms: images and their masks turned to rows and columns, upright, and back."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from monai.config import KeysCollection
from monai.data import MetaTensor
from monai.transforms import InvertibleTransform, MapTransform
from monai.utils import TransformBackends
from numpy.typing import NDArray

from monai_anat.data.items import DatalistError
from monai_anat.data.reading.gray_levels import to_gray
from monai_anat.data.reading.orientation import (
    StoredPicture,
    Turn,
    check_order,
    columns_affine,
    have_same_shape,
    picture_affine,
    states_orientation,
    turn_of,
    without_guess,
)
from monai_anat.data.reading.readers import AXIS_ORDER, MARK, STATES_ORIENTATION

__all__ = ["UPRIGHT_SHAPE", "OrientRadiograph", "OrientRadiographd"]

#: metadata key: rows and columns of the upright image, before it is resized
UPRIGHT_SHAPE = "upright_shape"

_BACKENDS = [TransformBackends.TORCH]
_FILENAME = "filename_or_obj"


@dataclass(frozen=True)
class _Plane:
    """The two-dimensional image inside a loaded tensor."""

    values: torch.Tensor  # (C, A, B)
    dropped: int | None  # axis that was removed, counted with the channel axis
    affine: NDArray[np.float64]  # of the whole tensor
    plane_affine: NDArray[np.float64]  # columns: the two axes, and the shift
    to_picture: Turn  # from the tensor to the stored picture
    to_upright: Turn  # from the tensor to the upright picture
    is_stated: bool  # whether the file states its orientation
    file: str  # empty for tensors that come from no file

    @property
    def stored(self) -> StoredPicture:
        shape = (int(self.values.shape[1]), int(self.values.shape[2]))
        # to_picture is a transposition or nothing, so it is its own inverse
        return StoredPicture(self.to_picture.shape(shape), self.to_picture.then(self.to_upright))


class OrientRadiograph(InvertibleTransform):
    """Turn a loaded image (1, A, B) into rows and columns (1, H, W), upright, by its affine.

    An axis of length one among three is dropped, a last axis of three or four colors becomes gray. Plain tensors, and
    MetaTensors without a file and without an orientation in their affine, count as rows and columns already.

    Args:
        order: ``rows`` for rows first; ``columns`` for MONAI's own order, columns first, in which ``SaveImage`` writes
            upright PNG and NIfTI files.

    Raises:
        ValueError: if the order is unknown.
    """

    backend = _BACKENDS

    def __init__(self, order: str = "rows") -> None:
        check_order(order)
        self.order = order

    def __call__(self, img: torch.Tensor) -> torch.Tensor:
        plane = _plane_of(img)
        return self._turned(img, plane, plane.to_upright)

    def follow(self, img: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Turn a mask to the upright orientation of its image.

        A mask whose own file states an orientation follows it. Any other mask from a file takes the turn of the image
        that it was drawn on. Masks that come from no file are treated as images are.

        Args:
            img: the mask, as loaded.
            reference: the image, as loaded.

        Raises:
            DatalistError: if the sizes of mask and image cannot belong together. The message names both files.
        """
        plane, picture = _plane_of(img), _plane_of(reference).stored
        if not plane.file:
            return self._turned(img, plane, plane.to_upright)
        turn: Turn | None = plane.to_upright
        if not plane.is_stated:
            chosen = picture.turn_for(plane.stored.shape)
            turn = None if chosen is None else plane.to_picture.then(chosen)
        upright = picture.turn.shape(picture.shape)
        size = (int(plane.values.shape[1]), int(plane.values.shape[2]))
        if turn is None or not have_same_shape(turn.shape(size), upright):
            raise DatalistError(_sizes_differ(plane, picture, str(getattr(reference, "meta", {}).get(_FILENAME, ""))))
        return self._turned(img, plane, turn)

    def _turned(self, img: torch.Tensor, plane: _Plane, turn: Turn) -> torch.Tensor:
        values = plane.values.transpose(1, 2) if turn.transpose else plane.values
        flips = [axis for axis, flip in ((1, turn.flip_rows), (2, turn.flip_columns)) if flip]
        values = values.flip(flips) if flips else values
        values = values.transpose(1, 2) if self.order == "columns" else values
        if not isinstance(img, MetaTensor):
            return values
        lengths = [float(n) for n in np.linalg.norm(plane.plane_affine[:-1, :2], axis=0)]
        row, column = reversed(lengths) if turn.transpose else lengths
        upright = picture_affine((row, column)) if self.order == "rows" else columns_affine((row, column))
        out = MetaTensor(
            values.contiguous(),
            affine=torch.as_tensor(upright),
            meta=_turned_meta(img, values, turn.shape((int(plane.values.shape[1]), int(plane.values.shape[2])))),
            applied_operations=list(img.applied_operations),
        )
        info = {
            "turn": (turn.transpose, flips),
            "dropped": plane.dropped,
            "affine": torch.as_tensor(plane.affine),
        }
        push: Any = self.push_transform
        push(out, orig_size=tuple(img.shape[1:]), extra_info=info)
        return out

    def inverse(self, data: torch.Tensor) -> torch.Tensor:
        """Turn (C, H, W) back to the axes of the loaded tensor."""
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
    """Dictionary form of ``OrientRadiograph``. Masks are turned together with the image.

    With ``order="columns"`` it precedes ``SaveImaged``, which writes columns first.

    Args:
        keys: keys to turn. The first one holds the image, the others its masks; see ``OrientRadiograph.follow``.
        order: ``rows`` or ``columns``.
        allow_missing_keys: skip keys that an item lacks.
    """

    backend = OrientRadiograph.backend

    def __init__(self, keys: KeysCollection, order: str = "rows", allow_missing_keys: bool = False) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        self.orient = OrientRadiograph(order)

    def __call__(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        items = dict(data)
        for key in self.key_iterator(items):
            is_first = key == self.keys[0] or self.keys[0] not in data
            items[key] = self.orient(items[key]) if is_first else self.orient.follow(items[key], data[self.keys[0]])
        return items

    def inverse(self, data: Mapping[Hashable, torch.Tensor]) -> dict[Hashable, torch.Tensor]:
        """Turn back to the axes of the loaded tensors."""
        items = dict(data)
        for key in self.key_iterator(items):
            items[key] = self.orient.inverse(items[key])
        return items


def _plane_of(img: torch.Tensor) -> _Plane:
    """Find the two-dimensional image in a tensor, and how to turn it."""
    meta: Mapping[str, Any] = img.meta if isinstance(img, MetaTensor) else {}
    affine = np.eye(4)
    if isinstance(img, MetaTensor):
        affine = without_guess(img.affine, meta.get("qform_code"), meta.get("sform_code"))
    values, dropped, kept = _two_axes(img.as_tensor() if isinstance(img, MetaTensor) else torch.as_tensor(img))
    plane_affine = affine[:, [*kept, -1]] if affine.shape[1] > max(kept) + 1 else affine
    file = str(meta.get(_FILENAME, ""))
    is_array = file.endswith((".npy", ".npz"))
    if MARK in meta:
        to_picture = Turn(transpose=meta.get(AXIS_ORDER) == "columns")
        to_upright, is_stated = turn_of(plane_affine), bool(meta.get(STATES_ORIENTATION))
    elif isinstance(img, MetaTensor) and (
        # an image with a third axis comes from a reader of volumes, which puts columns first
        dropped is not None or (not is_array and (file or not np.array_equal(affine, np.eye(len(affine)))))
    ):
        to_picture, to_upright = Turn(transpose=True), turn_of(plane_affine)
        is_stated = states_orientation(plane_affine)
    else:
        to_picture, to_upright, is_stated = Turn(), Turn(), False
    return _Plane(values, dropped, affine, plane_affine, to_picture, to_upright, is_stated, file)


def _sizes_differ(mask: _Plane, picture: StoredPicture, image: str) -> str:
    shape = mask.stored.shape
    if have_same_shape(shape, (picture.shape[1], picture.shape[0])):
        way = "it is transposed, so exchange its rows and columns"
    else:
        way = "draw the mask on the image as it is stored, or resize it to the image's size"
    return (
        f"mask {mask.file} must have the size of its image {image}, {picture.shape[0]} x {picture.shape[1]} pixels "
        f"(rows x columns), or its proportions, got {shape[0]} x {shape[1]}; {way}"
    )


def _turned_meta(image: MetaTensor, values: torch.Tensor, upright: tuple[int, int]) -> dict[str, Any]:
    """Metadata of an upright image: ``spatial_shape`` stays that of the file, as in MONAI, where both have two axes.

    Clients such as MONAI Label resize a mask to this shape.
    """
    meta = {**_meta_of(image, values), UPRIGHT_SHAPE: np.asarray(upright)}
    stored = image.meta.get("spatial_shape")
    return {**meta, "spatial_shape": np.asarray(stored)} if stored is not None and len(stored) == 2 else meta


def _meta_of(image: MetaTensor, values: torch.Tensor) -> dict[str, Any]:
    """Metadata of turned values without the affine. MONAI's writers recognize the channel by ``spatial_shape``."""
    meta = {key: value for key, value in image.meta.items() if key != "affine"}
    return {**meta, "spatial_shape": np.asarray(values.shape[1:])}


def _two_axes(values: torch.Tensor) -> tuple[torch.Tensor, int | None, list[int]]:
    """(C, A, B), the removed axis (counted with the channel axis) or None, and the remaining spatial axes."""
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
        "volumes need another loading chain"
    )
