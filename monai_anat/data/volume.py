"""Radiographs in volume formats: NIfTI by nibabel, MHA, MHD and NRRD by ITK, turned upright by their affine."""

from __future__ import annotations

import os
import warnings
from typing import Any

import itk
import nibabel
import numpy as np
from numpy.typing import NDArray

from .orientation import apply_turn, turn_of
from .raster import chosen_frame
from .reading import Decoded, UnreadableError, check_size, scale_stored, to_grey

__all__ = [
    "decode_volume",
]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def decode_volume(path: str | os.PathLike[str], frame: int | None = None, label: bool = False) -> Decoded:
    """Decode a two-dimensional image out of NIfTI, MHA, MHD or NRRD.

    Args:
        path: the file.
        frame: slice along the third axis of a file that has several.
        label: keep the stored values.

    Raises:
        UnreadableError: it does not decode, is absurdly large, or has several slices and none was chosen.
    """
    is_nifti = str(path).lower().endswith((".nii", ".nii.gz"))
    values, affine, has_spacing = _read_nifti(path) if is_nifti else _read_itk(path)
    values, affine = _single_plane(values, affine, frame)
    turn = turn_of(affine)
    lengths = np.linalg.norm(affine[:-1, :2], axis=0)
    row, column = (lengths[1], lengths[0]) if turn.transpose else (lengths[0], lengths[1])
    pixels: NDArray[Any] = np.ascontiguousarray(apply_turn(values, turn))
    spacing = (float(row), float(column)) if has_spacing else None
    info: dict[str, Any] = {
        "kind": "nifti" if is_nifti else "itk",
        "original_size": tuple(pixels.shape),
        "pixel_aspect": float(row / column),
        "spacing_source": "header" if has_spacing else "unknown: the header has no spacing of its own",
        "turned": f"transpose={turn.transpose}, flip_rows={turn.flip_rows}, flip_columns={turn.flip_columns}",
        "inverted": False,
        "view": None,
    }
    if label:
        return Decoded(pixels, spacing, {**info, "mapping": "stored values"})
    scaled, mapping = scale_stored(pixels)
    return Decoded(scaled, spacing, {**info, "mapping": mapping})


def _read_nifti(path: str | os.PathLike[str]) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """Values, affine, and whether the spacing means something."""
    image: Any = nibabel.load(path)
    check_size(*[int(n) for n in image.shape[:2]])
    header = image.header
    slope, intercept = header.get_slope_inter()
    plain = slope in (None, 1.0) and intercept in (None, 0.0)
    values = np.asanyarray(image.dataobj.get_unscaled()) if plain else np.asanyarray(image.dataobj)
    if values.dtype.names:  # RGB voxels are a structured type
        values = np.stack([values[name] for name in values.dtype.names], axis=-1)
        grey = to_grey(values)
        values = grey
    affine = np.asarray(image.affine, dtype=np.float64)
    zooms = header.get_zooms()[:2]
    return values.astype(values.dtype.newbyteorder("=")), affine, not np.allclose(zooms, 1.0)


def _read_itk(path: str | os.PathLike[str]) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """Values in (column, row[, slice]) order, affine in RAS, and whether the spacing means something."""
    with warnings.catch_warnings():
        # ITK loads its parts on first use; one that a warning-turned-error interrupts takes the process down
        warnings.simplefilter("ignore")
        return _read_itk_image(path)


def _read_itk_image(path: str | os.PathLike[str]) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    try:
        image: Any = itk.imread(os.fspath(path))
    except RuntimeError as error:
        raise UnreadableError("the image is damaged or truncated") from error
    size = [int(n) for n in itk.size(image)]
    check_size(size[1], size[0])
    values = np.asarray(itk.array_from_image(image))
    if image.GetNumberOfComponentsPerPixel() > 1:
        values = to_grey(values)
    values = values.T
    dimension = values.ndim
    spacing = np.asarray(image.GetSpacing(), dtype=np.float64)
    direction = np.asarray(itk.array_from_matrix(image.GetDirection()), dtype=np.float64)
    affine = np.eye(4)
    affine[:dimension, :dimension] = direction @ np.diag(spacing)
    affine[:dimension, 3] = np.asarray(image.GetOrigin(), dtype=np.float64)
    return values, _LPS_TO_RAS @ affine, not np.allclose(spacing[:2], 1.0)


def _single_plane(
    values: NDArray[Any], affine: NDArray[np.float64], frame: int | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Drop axes of length one, or take one slice, and keep the affine's columns of the two axes that are left."""
    if values.ndim == 4 and values.shape[-1] in (3, 4):
        values = to_grey(values)
    while values.ndim > 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim not in (2, 3):
        raise UnreadableError(f"the file has {values.ndim} axes; a radiograph has two")
    keep = [0, 1]
    if values.ndim == 3:
        axis = min(range(3), key=lambda a: (values.shape[a], -a))
        values = np.take(values, chosen_frame(values.shape[axis], frame), axis=axis)
        keep = [a for a in range(3) if a != axis]
    return values, affine[:, [*keep, 3]]
