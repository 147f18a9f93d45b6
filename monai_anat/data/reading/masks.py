"""Label masks: files of class numbers, read as stored and checked, one file per item or one file per class."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.items import DatalistError
from monai_anat.data.reading.decoded import Decoded
from monai_anat.data.reading.orientation import StoredPicture, apply_turn, undo_turn
from monai_anat.data.reading.radiograph import RadiographError, decode

__all__ = [
    "MaskError",
    "align_mask",
    "check_mask_classes",
    "join_masks",
    "map_mask_values",
    "read_mask",
]

_SHOWN = 6
_WHOLE = 1e-3


class MaskError(RadiographError, DatalistError):
    """An error for files that cannot be used as a mask."""

    def __init__(self, path: str | os.PathLike[str], reason: str, detail: str = "") -> None:
        super().__init__(path, reason, detail)
        self.args = (f"cannot use {self.path} as a mask: {reason}{f' ({detail})' if detail else ''}",)


def read_mask(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    values: Mapping[Any, int] | None = None,
    frame: int | None = None,
) -> Decoded:
    """Read a mask of class numbers.

    Values are returned as stored, also those of PNG and TIFF files with 1, 2 or 4 bits. Several files are joined to one
    mask: every nonzero pixel of the first file becomes class 1, of the second file class 2, and so on.

    Args:
        paths: one file, or one file per class, such as ``[right, left]``.
        values: stored value -> class number, such as ``{255: 1}``. Values that are not named stay as they are. Keys may
            be texts, because JSON has no other ones.
        frame: frame to read from a file with several.

    Returns:
        The mask (H, W), turned upright by its own header alone; see :func:`align_mask`.

    Raises:
        MaskError: if a file is compressed by JPEG or holds fractions, if files differ in size, or if classes overlap.
        RadiographError: if a file cannot be read.
    """
    if isinstance(paths, (str, os.PathLike)):
        paths = [paths]
    parts = [_read_part(path, frame) for path in paths]
    if len(parts) == 1:
        return replace(parts[0], pixels=map_mask_values(parts[0].pixels, values))
    first = parts[0]
    for path, part in zip(paths, parts, strict=True):
        if (part.pixels.shape, part.turn) != (first.pixels.shape, first.turn):
            raise MaskError(
                path,
                f"it has {_size(part.pixels)} pixels, and {paths[0]} has {_size(first.pixels)}, or their headers "
                "differ in orientation; masks of one image must have one size and orientation",
            )
    return replace(first, pixels=join_masks([part.pixels for part in parts], [str(path) for path in paths]))


def _read_part(path: str | os.PathLike[str], frame: int | None) -> Decoded:
    """One file, with integer values."""
    decoded = decode(path, frame, label=True)
    if decoded.info.get("lossy"):
        raise MaskError(
            path, "JPEG compression changes values, so that class numbers are lost; save the mask as PNG or TIFF"
        )
    pixels = decoded.pixels
    if pixels.dtype.kind == "f":
        whole = np.rint(pixels)
        if not np.isfinite(pixels).all() or np.abs(pixels - whole).max(initial=0) > _WHOLE:
            found = np.unique(pixels)[:_SHOWN].tolist()
            raise MaskError(
                path, f"it holds fractions ({found} ...) instead of class numbers; threshold it and save whole numbers"
            )
        pixels = whole.astype(np.int64)
    return replace(decoded, pixels=pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels)


def _size(pixels: NDArray[Any]) -> str:
    return f"{pixels.shape[0]} x {pixels.shape[1]}"


def join_masks(parts: Sequence[NDArray[Any]], names: Sequence[str]) -> NDArray[np.uint8]:
    """Join one mask per class to one mask of class numbers, without loss.

    Args:
        parts: masks (H, W). Zero is background, and one other value is foreground.
        names: file of each mask, for error messages.

    Returns:
        uint8 (H, W): 1 where the first mask is foreground, 2 where the second is, and so on.

    Raises:
        MaskError: if a mask has several foreground values, or masks overlap.

    >>> join_masks([np.array([[255, 0, 0]]), np.array([[0, 0, 255]])], ["right.png", "left.png"]).tolist()
    [[1, 0, 2]]
    """
    joined = np.zeros(parts[0].shape, np.uint8)
    for number, (part, name) in enumerate(zip(parts, names, strict=True), start=1):
        inside = part != 0
        found = np.unique(part[inside])
        if len(found) > 1:
            raise MaskError(
                name,
                f"it is one of {len(parts)} masks of one image and must hold 0 and one other value, got "
                f"{found[:_SHOWN].tolist()}; give one binary mask per class, or one file with all classes",
            )
        overlap = inside & (joined > 0)
        if overlap.any():
            other = names[int(joined[overlap][0]) - 1]
            raise MaskError(
                name,
                f"it overlaps {other} in {int(overlap.sum())} pixels; a pixel can have one class only, so remove the "
                "overlap from one of them",
            )
        joined[inside] = number
    return joined


def map_mask_values(mask: NDArray[Any], values: Mapping[Any, int] | None) -> NDArray[Any]:
    """Replace stored values by class numbers.

    Args:
        mask: whole numbers (H, W).
        values: stored value -> class number; None changes nothing.

    Raises:
        ValueError: if a value or class number is not an integer.

    >>> map_mask_values(np.array([[0, 255]], np.uint8), {"255": 1}).tolist()
    [[0, 1]]
    """
    if not values:
        return mask
    try:
        pairs = {int(value): int(number) for value, number in values.items()}
    except (TypeError, ValueError) as error:
        raise ValueError(f"mask values must map integers to class numbers, such as {{255: 1}}, got {values}") from error
    mapped = mask.copy()
    for value, number in pairs.items():
        mapped[mask == value] = number
    return mapped


def check_mask_classes(mask: NDArray[Any], classes: int, path: str | os.PathLike[str]) -> None:
    """Refuse a mask with values that are not class numbers.

    Args:
        mask: whole numbers.
        classes: number of classes, background included.
        path: the mask's file, for the message.

    Raises:
        MaskError: if a value lies outside 0 to ``classes - 1``. The message names the values and the way out.
    """
    found = np.unique(mask)
    outside = found[(found < 0) | (found >= classes)]
    if len(outside) == 0:
        return
    way = "map them to class numbers with mask values such as {255: 1}"
    if len(found) <= 2 and classes > 2:
        way += ", or give one mask per class as a list [right, left]"
    raise MaskError(
        path,
        f"it must hold class numbers 0 to {classes - 1}, got the values {found[:_SHOWN].tolist()}"
        f"{' ...' if len(found) > _SHOWN else ''}; {way}",
    )


def align_mask(mask: Decoded, picture: StoredPicture, path: str | os.PathLike[str]) -> NDArray[Any]:
    """Turn a mask to the upright orientation of its image.

    A mask whose own header states an orientation follows it. Any other mask takes the turn of the image it was drawn
    on.

    Args:
        mask: as :func:`read_mask` returns it.
        picture: size and turn of the image, as ``Radiograph.stored`` holds them.
        path: the mask's file, for the message.

    Returns:
        The mask (H, W) with the size of the upright image.

    Raises:
        MaskError: if the sizes of mask and image differ.
    """
    upright = picture.turn.shape(picture.shape)
    aligned = mask.pixels
    if not mask.states_orientation:
        stored = undo_turn(mask.pixels, mask.turn)
        turn = picture.turn_for((stored.shape[0], stored.shape[1]))
        aligned = stored if turn is None else apply_turn(stored, turn)
    if aligned.shape != upright:
        raise MaskError(
            path, f"it must have the size of its image, {upright[0]} x {upright[1]} pixels, got {_size(aligned)}"
        )
    return np.ascontiguousarray(aligned)
