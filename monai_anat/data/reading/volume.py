"""Decoder for radiographs in volume formats: NIfTI by nibabel, MHA, MHD and NRRD, turned upright by their affine."""

from __future__ import annotations

import gzip
import math
import os
import re
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from monai_anat.data.reading.decoded import (
    Decoded,
    UnreadableError,
    check_size,
    check_total_size,
    is_plausible_aspect,
)
from monai_anat.data.reading.gray_levels import scale_stored, to_gray
from monai_anat.data.reading.metaimage import read_meta_header
from monai_anat.data.reading.nrrd import read_nrrd_header
from monai_anat.data.reading.orientation import Turn, apply_turn, states_orientation, turn_of, without_guess
from monai_anat.data.reading.raster import chosen_frame
from monai_anat.data.reading.raw_volume import file_beside, read_block

__all__ = [
    "HEAD_BYTES",
    "decode_volume",
    "volume_kind",
]

#: number of bytes that identify the format of a file
HEAD_BYTES = 352
_GZIP = b"\x1f\x8b"
_MOST_EXTENSIONS = 1 << 24  # bytes before the voxels of a NIfTI file
_WHOLE = 1e-3
_DAMAGED = "the image is damaged or truncated"
_COLOR_TYPES = ("u1", "u2", "f4")
_NIFTI_TYPES = {"nifti1": nibabel.Nifti1Image, "nifti2": nibabel.Nifti2Image, "nifti-pair": nibabel.Nifti1Pair}
_COLORS = 4  # red, green, blue, alpha


def volume_kind(path: str | os.PathLike[str], head: bytes) -> str:
    """Recognize a volume format by the content of a file.

    Args:
        path: the file, which gzip may have compressed.
        head: its first ``HEAD_BYTES`` bytes.

    Returns:
        ``nifti1``, ``nifti2``, ``nifti-pair``, ``meta`` (MHA, MHD), ``nrrd``, or an empty text for other formats.

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
    """Decode a two-dimensional image from NIfTI, MHA, MHD or NRRD.

    Args:
        path: the file.
        frame: slice along the third axis of a file with several.
        label: return the stored values.

    Raises:
        UnreadableError: if the file does not decode, is absurdly large, or has several slices and ``frame`` is None.
    """
    with Path(path).open("rb") as handle:
        kind = volume_kind(path, handle.read(HEAD_BYTES))
    is_nifti = kind.startswith("nifti")
    try:
        values, affine, has_spacing = _read_nifti(path, kind, frame) if is_nifti else _read_raw(path, kind, frame)
    except (EOFError, OSError, RuntimeError, HeaderDataError, ImageFileError, zlib.error) as error:
        raise UnreadableError(_DAMAGED, type(error).__name__) from error
    values, affine = _single_plane(values, affine, frame)
    turn, states = turn_of(affine), states_orientation(affine)
    lengths = np.linalg.norm(affine[:-1, :2], axis=0)
    row, column = (lengths[1], lengths[0]) if turn.transpose else (lengths[0], lengths[1])
    is_plausible = is_plausible_aspect(row, column)
    if not is_plausible:
        row, column, has_spacing = 1.0, 1.0, False
    pixels: NDArray[Any] = np.ascontiguousarray(apply_turn(values, turn))
    spacing = (float(row), float(column)) if has_spacing else None
    # the stored picture has the first axis of the file as columns, as in ITK and MONAI
    geometry = Turn(transpose=True).then(turn), states, _whole_affine(affine) if is_plausible else None
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
            pixels = np.rint(pixels)  # with a slope, a 2 may become 1.9999998
        return Decoded(pixels, spacing, {**info, "mapping": "stored values"}, None, *geometry)
    scaled, mapping = scale_stored(pixels)
    return Decoded(scaled, spacing, {**info, "mapping": mapping}, None, *geometry)


def _read_nifti(
    path: str | os.PathLike[str], kind: str, frame: int | None
) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """Values, affine, and whether the header states a spacing.

    Compressed files are unpacked here, up to the size that their header announces.
    """
    image_type: Any = _NIFTI_TYPES[kind]
    header = image_type.header_class.from_fileobj(BytesIO(_head(path, image_type.header_class.sizeof_hdr)), check=False)
    shape = header.get_data_shape()
    _check_axes(shape, frame)
    start = float(header["vox_offset"])
    if not 0 <= start <= _MOST_EXTENSIONS:
        raise UnreadableError("the image is damaged: its NIfTI header is too long")
    size = int(start) + math.prod(shape) * int(header.get_data_dtype().itemsize)
    if kind == "nifti-pair":
        files = {
            "header": FileHolder(fileobj=BytesIO(_head(path, _MOST_EXTENSIONS))),
            "image": FileHolder(fileobj=BytesIO(_head(_image_of_pair(Path(path)), size))),
        }
    else:
        content = FileHolder(fileobj=BytesIO(_head(path, size)))
        files = {"header": content, "image": content}
    return _nifti_values(image_type.from_file_map(files), frame)


def _image_of_pair(path: Path) -> Path:
    """The ``.img`` file of a ``.hdr`` file, beside it."""
    name = path.name.removesuffix(".gz")
    stem = name[: -len(Path(name).suffix)] if Path(name).suffix else name
    for ending in (".img", ".img.gz", ".IMG"):
        if (path.parent / (stem + ending)).exists():
            return file_beside(path, stem + ending)
    raise UnreadableError("the image is damaged or truncated: the .img file of this NIfTI header is missing")


def _head(path: str | os.PathLike[str], size: int) -> bytes:
    """The first bytes of a file, which gzip may have packed."""
    with Path(path).open("rb") as file:
        packed = file.read(2) == _GZIP
    with gzip.open(path) if packed else Path(path).open("rb") as stream:
        content: bytes = stream.read(size)
    return content


def _nifti_values(image: Any, frame: int | None) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    header = image.header
    _check_axes(image.shape, frame)
    if header.get_data_dtype().kind == "c":
        raise UnreadableError("the image holds complex numbers, which are not gray values")
    # from the data object, because nibabel removes them from the header of an image that it has read
    plain = image.dataobj.slope == 1 and image.dataobj.inter == 0
    values = np.asanyarray(image.dataobj.get_unscaled()) if plain else np.asanyarray(image.dataobj)
    if values.dtype.names:  # RGB voxels are a structured type
        values = to_gray(np.stack([values[name] for name in values.dtype.names], axis=-1))
    affine = without_guess(image.affine, header["qform_code"], header["sform_code"])
    zooms = header.get_zooms()[:2]
    return values.astype(values.dtype.newbyteorder("=")), affine, not np.allclose(zooms, 1.0)


def _read_raw(
    path: str | os.PathLike[str], kind: str, frame: int | None
) -> tuple[NDArray[Any], NDArray[np.float64], bool]:
    """Values in (column, row[, slice]) order, affine in RAS+, and whether the header states a spacing."""
    header = read_nrrd_header(Path(path)) if kind == "nrrd" else read_meta_header(Path(path))
    _check_axes(header.block.shape, frame)
    channels, dtype = header.block.channels, header.block.dtype
    if channels > 1 and (channels not in (3, _COLORS) or dtype.str[1:] not in _COLOR_TYPES):
        raise UnreadableError(f"the image has {channels} numbers of type {dtype.name} per pixel, which are not colors")
    values: NDArray[Any] = read_block(header.block)
    if channels > 1:
        values = to_gray(values)
    return values.astype(values.dtype.newbyteorder("=")), header.affine(), header.has_spacing()


def _whole_affine(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """The affine (4, 4) of an image with two axes, from its columns of these axes and of the shift."""
    whole = np.eye(4)
    whole[:, [0, 1, 3]] = affine
    normal = np.cross(affine[:3, 0], affine[:3, 1])
    whole[:3, 2] = normal / max(float(np.linalg.norm(normal)), 1e-12)
    return whole


def _check_axes(shape: Sequence[int], frame: int | None) -> None:
    """Refuse files that are no single picture, by their header alone."""
    lengths = sorted(int(n) for n in shape)
    if len(lengths) < 2:
        raise UnreadableError(f"the file has {len(lengths)} axes; a radiograph has two")
    check_size(lengths[-2], lengths[-1])
    if len(lengths) == 3:
        chosen_frame(lengths[0], frame)
    elif len(lengths) > 3 and lengths[-3] > _COLORS:
        raise UnreadableError(f"the file has {len(lengths)} axes; a radiograph has two")
    check_total_size(lengths)


def _single_plane(
    values: NDArray[Any], affine: NDArray[np.float64], frame: int | None
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Drop axes of length one, or select one slice, and keep the affine's columns of the two remaining axes."""
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
