"""Radiographs in volume formats: NIfTI by nibabel, MHA, MHD and NRRD by ITK, turned upright by their affine."""

from __future__ import annotations

import gzip
import os
import re
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
from numpy.typing import NDArray

from monai_anat.data.reading.decoding import (
    Decoded,
    UnreadableError,
    check_size,
    is_plausible_aspect,
    scale_stored,
    to_gray,
)
from monai_anat.data.reading.orientation import apply_turn, turn_of, without_guess
from monai_anat.data.reading.raster import chosen_frame

__all__ = [
    "HEAD_BYTES",
    "decode_volume",
    "volume_kind",
]

#: so much of a file tells what kind of file it is
HEAD_BYTES = 352
_GZIP = b"\x1f\x8b"
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_DATA_FILE = re.compile(rb"^(?:ElementDataFile|data ?file)\s*[=:]\s*(.*?)\s*$", re.IGNORECASE | re.MULTILINE)
_WHOLE = 1e-3
_DAMAGED = "the image is damaged or truncated"
_COLOR_TYPES = {"unsigned_char": itk.UC, "unsigned_short": itk.US, "float": itk.F}
_COLORS = 4  # red, green, blue, and how opaque


def volume_kind(path: str | os.PathLike[str], head: bytes) -> str:
    """Tell what volume format a file has, by its content.

    Args:
        path: the file; one that gzip packed is looked into.
        head: its first ``HEAD_BYTES`` bytes.

    Returns:
        ``nifti1``, ``nifti2``, ``nifti-pair``, ``meta`` (MHA, MHD), ``nrrd``, or nothing.

    >>> volume_kind("a.dat", b"NRRD0004")
    'nrrd'
    """
    if head.startswith(_GZIP):
        try:
            with gzip.open(path) as handle:
                return _nifti_kind(handle.read(HEAD_BYTES))
        except (OSError, EOFError, zlib.error):
            return ""
    if head.startswith(b"NRRD"):
        return "nrrd"
    words = re.match(rb"(?:Comment\s*=.*\s+)?(?:ObjectType|NDims)\s*=", head)
    return "meta" if words else _nifti_kind(head)


def _nifti_kind(head: bytes) -> str:
    if head[4:7] == b"n+2":
        return "nifti2"
    return {b"n+1": "nifti1", b"ni1": "nifti-pair"}.get(head[344:347], "")


def decode_volume(path: str | os.PathLike[str], frame: int | None = None, label: bool = False) -> Decoded:
    """Decode a two-dimensional image out of NIfTI, MHA, MHD or NRRD.

    Args:
        path: the file.
        frame: slice along the third axis of a file that has several.
        label: keep the stored values.

    Raises:
        UnreadableError: it does not decode, is absurdly large, or has several slices and none was chosen.
    """
    with Path(path).open("rb") as handle:
        kind = volume_kind(path, handle.read(HEAD_BYTES))
    is_nifti = kind.startswith("nifti")
    try:
        values, affine, has_spacing = _read_nifti(path, kind, frame) if is_nifti else _read_itk(path, kind, frame)
    except (EOFError, OSError, RuntimeError, zlib.error) as error:
        raise UnreadableError(_DAMAGED, type(error).__name__) from error
    values, affine = _single_plane(values, affine, frame)
    turn = turn_of(affine)
    lengths = np.linalg.norm(affine[:-1, :2], axis=0)
    row, column = (lengths[1], lengths[0]) if turn.transpose else (lengths[0], lengths[1])
    if not is_plausible_aspect(row, column):
        row, column, has_spacing = 1.0, 1.0, False
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
        if pixels.dtype.kind == "f" and np.allclose(pixels, np.rint(pixels), atol=_WHOLE, rtol=0):
            pixels = np.rint(pixels)  # a slope leaves 1.9999998 of a 2
        return Decoded(pixels, spacing, {**info, "mapping": "stored values"})
    scaled, mapping = scale_stored(pixels)
    return Decoded(scaled, spacing, {**info, "mapping": mapping})


def _read_nifti(
    path: str | os.PathLike[str], kind: str, frame: int | None
) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """Values, affine, and whether the spacing means something."""
    with Path(path).open("rb") as handle:
        packed = handle.read(2) == _GZIP
    if kind == "nifti-pair":
        return _nifti_values(nibabel.load(path), frame)
    image_type = nibabel.Nifti2Image if kind == "nifti2" else nibabel.Nifti1Image
    with gzip.open(path) if packed else Path(path).open("rb") as stream:
        return _nifti_values(image_type.from_stream(stream), frame)


def _nifti_values(image: Any, frame: int | None) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    header = image.header
    _check_axes(image.shape, frame)
    if header.get_data_dtype().kind == "c":
        raise UnreadableError("the image holds complex numbers, which are no gray values")
    # of the data: nibabel takes them out of the header of an image that it has read
    plain = image.dataobj.slope == 1 and image.dataobj.inter == 0
    values = np.asanyarray(image.dataobj.get_unscaled()) if plain else np.asanyarray(image.dataobj)
    if values.dtype.names:  # RGB voxels are a structured type
        values = to_gray(np.stack([values[name] for name in values.dtype.names], axis=-1))
    affine = without_guess(image.affine, header["qform_code"], header["sform_code"])
    zooms = header.get_zooms()[:2]
    return values.astype(values.dtype.newbyteorder("=")), affine, not np.allclose(zooms, 1.0)


def _read_itk(
    path: str | os.PathLike[str], kind: str, frame: int | None
) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """Values in (column, row[, slice]) order, affine in RAS, and whether the spacing means something."""
    _check_data_file(Path(path))
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise UnreadableError("the file's name is not UTF-8, which ITK cannot open; rename the file") from error
    with warnings.catch_warnings():
        # ITK loads its parts on first use; one that a warning-turned-error interrupts takes the process down
        warnings.simplefilter("ignore")
        return _read_itk_image(os.fspath(path), kind, frame)


def _read_itk_image(path: str, kind: str, frame: int | None) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    reader: Any = itk.NrrdImageIO.New() if kind == "nrrd" else itk.MetaImageIO.New()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    # before memory is asked for
    _check_axes([int(reader.GetDimensions(axis)) for axis in range(reader.GetNumberOfDimensions())], frame)
    colors = int(reader.GetNumberOfComponents())
    component = reader.GetComponentTypeAsString(reader.GetComponentType())
    if colors > 1 and (colors not in (3, _COLORS) or component not in _COLOR_TYPES):
        raise UnreadableError(f"the image has {colors} numbers of type {component} per pixel, which are no colors")
    pixel_type = itk.VariableLengthVector[_COLOR_TYPES[component]] if colors > 1 else None
    image: Any = itk.imread(path, pixel_type=pixel_type, imageio=reader)
    values = np.asarray(itk.array_from_image(image))
    if colors > 1:
        values = to_gray(values)
    values = values.T
    dimension = values.ndim
    spacing = np.asarray(image.GetSpacing(), dtype=np.float64)
    direction = np.asarray(itk.array_from_matrix(image.GetDirection()), dtype=np.float64)
    affine = np.eye(4)
    affine[:dimension, :dimension] = direction @ np.diag(spacing)
    affine[:dimension, 3] = np.asarray(image.GetOrigin(), dtype=np.float64)
    return values, _LPS_TO_RAS @ affine, not np.allclose(spacing[:2], 1.0)


def _check_data_file(path: Path) -> None:
    """Refuse a header that would have another file than one beside it read: it may lead anywhere on the disk."""
    with path.open("rb") as handle:
        head = re.split(rb"\r?\n\r?\n", handle.read(1 << 16))[0]
    found = _DATA_FILE.search(head)
    if found is None or found.group(1) == b"LOCAL":
        return
    place = path.parent / os.fsdecode(found.group(1))
    if not place.resolve().is_relative_to(path.parent.resolve()):
        raise UnreadableError("the header names a data file outside its folder, which is not followed")
    if not place.is_file():
        raise UnreadableError("the header names a data file that is not there, or a list of files")


def _check_axes(shape: Sequence[int], frame: int | None) -> None:
    """Refuse what is no single picture, by the header alone."""
    lengths = sorted(int(n) for n in shape)
    if len(lengths) < 2:
        raise UnreadableError(f"the file has {len(lengths)} axes; a radiograph has two")
    check_size(lengths[-2], lengths[-1])
    if len(lengths) == 3:
        chosen_frame(lengths[0], frame)
    elif len(lengths) > 3 and lengths[-3] > _COLORS:
        raise UnreadableError(f"the file has {len(lengths)} axes; a radiograph has two")


def _single_plane(
    values: NDArray[Any], affine: NDArray[np.float64], frame: int | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Drop axes of length one, or take one slice, and keep the affine's columns of the two axes that are left."""
    if values.ndim == 4 and values.shape[-1] in (3, 4):
        values = to_gray(values)
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
