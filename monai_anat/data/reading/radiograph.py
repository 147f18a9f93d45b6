"""Radiograph files of any kind, read to one convention: rows and columns, air dark, bone bright.

No common reader handles chest radiographs correctly. MONAI's two DICOM readers return opposite pictures of the same
MONOCHROME1 file, neither applies the window, and all of MONAI's readers return transposed arrays. This module
recognizes files by their content instead of their suffix, maps gray values to [0, 1] and records the mapping.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_anat.data.items import is_prepared_path
from monai_anat.data.reading.decoded import Decoded, UnreadableError
from monai_anat.data.reading.dicom import FIRST_ELEMENT, decode_dicom
from monai_anat.data.reading.orientation import StoredPicture
from monai_anat.data.reading.raster import decode_raster
from monai_anat.data.reading.shards import read_shard_image
from monai_anat.data.reading.volume import HEAD_BYTES, decode_volume, volume_kind

__all__ = [
    "Radiograph",
    "RadiographError",
    "decode",
    "has_image_mark",
    "read_radiograph",
]

_PREAMBLE = 128
_RASTER_MARKS = {
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"II*\x00": "tiff",
    b"MM\x00*": "tiff",
    b"II+\x00": "tiff",  # of more than 4 GB
    b"MM\x00+": "tiff",
    b"BM": "bmp",
}
_FOREIGN_MARKS = {
    b"PK\x03\x04": "a ZIP archive, not an image",
    b"%PDF": "a PDF document, not an image",
    b"7z\xbc\xaf": "a 7z archive, not an image",
    b"Rar!": "a RAR archive, not an image",
    b"<!DOC": "a web page, not an image",
    b"<html": "a web page, not an image",
    b"PK\x05\x06": "an empty ZIP archive",
    b"\x1f\x8b": "compressed by gzip; decompress it first",
    b"GIF8": "a GIF, which is not supported; save it as PNG",
    b"RIFF": "a WebP or another RIFF file, which is not supported; save it as PNG",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 file outside DICOM, which is not supported; save it as PNG",
}


class RadiographError(ValueError):
    """An error for files that cannot be read as a radiograph.

    Attributes:
        path: the file.
        reason: the cause, in a sentence without the file's name or content.
        detail: further words, which may hold parts of the content.
    """

    def __init__(self, path: str | os.PathLike[str], reason: str, detail: str = "") -> None:
        self.path, self.reason, self.detail = str(path), reason, detail
        super().__init__(f"cannot read {self.path} as a radiograph: {reason}{f' ({detail})' if detail else ''}")

    def __reduce__(self) -> tuple[type[RadiographError], tuple[str, str, str]]:
        return type(self), (self.path, self.reason, self.detail)


@dataclass(frozen=True)
class Radiograph:
    """One radiograph: rows from head to foot, columns from the patient's right to the left, air dark, bone bright.

    Attributes:
        pixels: float32 (H, W) in [0, 1].
        spacing: distance between pixel centers (row, column) in mm, or None if the file does not state it.
        info: how the file was read: its ``kind``, the ``mapping`` of gray values to [0, 1], whether it was
            ``inverted``, ``spacing_source``, ``view`` (PA, AP, FRONTAL, LATERAL, OBLIQUE or None), ``pixel_aspect``
            (height over width of a pixel), ``original_size`` and more. Never a name, id, date, UID or path.
        stored: size of the stored picture, and the turn that the file's header requested. Masks and landmarks drawn on
            the stored picture take the same turn.
    """

    pixels: NDArray[np.float32]
    spacing: tuple[float, float] | None = None
    info: dict[str, Any] = field(default_factory=dict)
    stored: StoredPicture | None = None


def read_radiograph(path: str | os.PathLike[str], *, frame: int | None = None) -> Radiograph:
    """Read DICOM, PNG, JPEG, TIFF, BMP, NIfTI, MHA/MHD, NRRD, or one image of prepared shards (``index.npy#12``).

    Args:
        path: the file.
        frame: frame to read from a file with several, counted from 0. With None, such files are refused.

    Raises:
        RadiographError: if the file cannot be read. The message names the file and the cause.

    >>> from monai_anat.data import pretraining_datalist
    >>> radiograph = read_radiograph(pretraining_datalist()[0]["image"])
    >>> radiograph.pixels.dtype, radiograph.pixels.ndim, radiograph.info["mapping"]
    (dtype('float32'), 2, 'linear from 0..255')
    """
    decoded = decode(path, frame)
    return Radiograph(decoded.pixels, decoded.spacing, decoded.info, decoded.stored)


def decode(path: str | os.PathLike[str], frame: int | None = None, *, label: bool = False) -> Decoded:
    """Decode a radiograph or a mask.

    Args:
        path: the file.
        frame: frame to read from a file with several.
        label: return the stored values of a mask instead of gray values. Orientation is handled the same way.

    Raises:
        RadiographError: if the file cannot be read. The message names the file and the cause.
    """
    try:
        decoder = _decoder_for(path)
        return decoder(path, frame, label)
    except UnreadableError as error:
        raise RadiographError(path, error.reason, error.detail) from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise RadiographError(path, "there is no such file") from error
    except PermissionError as error:
        raise RadiographError(path, "permission denied") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RadiographError(path, "the file is part of a circle of symbolic links") from error
        raise RadiographError(path, f"the file cannot be read from the disk ({type(error).__name__})") from error
    except MemoryError as error:
        raise RadiographError(path, "the image does not fit into memory") from error
    except Exception as error:
        # third-party decoders raise any kind of exception on damaged files; only its type is passed on
        raise RadiographError(path, f"the file is damaged: decoding failed with {type(error).__name__}") from error


def has_image_mark(path: str | os.PathLike[str]) -> bool:
    """Check whether a file starts like a supported kind of image, whatever its name.

    Args:
        path: the file.
    """
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as handle:
        head = handle.read(HEAD_BYTES)
    # a text may start with the two letters of BMP
    marks = tuple(mark for mark in _RASTER_MARKS if len(mark) > 2)
    return head[_PREAMBLE : _PREAMBLE + 4] == b"DICM" or head.startswith(marks) or bool(volume_kind(path, head))


def _decoder_for(path: str | os.PathLike[str]) -> Callable[[str | os.PathLike[str], int | None, bool], Decoded]:
    """Choose the decoder by the content of the file."""
    if is_prepared_path(str(path)) and not Path(path).is_file():
        return read_shard_image
    # opening a pipe or a socket would block
    if Path(path).exists() and not Path(path).is_file():
        raise UnreadableError("there is no such file: the path is a folder, a pipe or a device")
    with Path(path).open("rb") as handle:
        head = handle.read(HEAD_BYTES)
    if not head:
        raise UnreadableError("the file is empty (0 bytes)")
    if head[_PREAMBLE : _PREAMBLE + 4] == b"DICM":
        return decode_dicom
    if any(head.startswith(mark) for mark in _RASTER_MARKS):
        return decode_raster
    if volume_kind(path, head):
        return decode_volume
    for mark, what in _FOREIGN_MARKS.items():
        if head.startswith(mark):
            raise UnreadableError(f"the file is {what}")
    # DICOM without preamble starts with a tag of group 2 or 8, in either byte order
    if FIRST_ELEMENT in head[:64] or head[:2] in (b"\x02\x00", b"\x08\x00", b"\x00\x08", b"\x00\x02"):
        return decode_dicom
    raise UnreadableError("the content is not DICOM, PNG, JPEG, TIFF, BMP, NIfTI, MHA or NRRD (it may be encrypted)")
