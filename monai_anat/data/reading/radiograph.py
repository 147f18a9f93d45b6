"""Read one radiograph, whatever kind of file it is, to one convention: rows and columns, air dark, bone bright.

No reader in common use does a chest radiograph right: MONAI's two DICOM readers give opposite pictures of the same
MONOCHROME1 file, neither applies the window, and all of them bring images in transposed. Here the file is recognized by
its content, not by its ending; gray values are mapped to [0, 1] and the mapping is written down.
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

from monai_anat.data.reading.decoded import Decoded, UnreadableError
from monai_anat.data.reading.dicom import FIRST_ELEMENT, decode_dicom
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
    b"PK\x05\x06": "a ZIP archive without a file in it",
    b"\x1f\x8b": "packed by gzip; unpack it first",
    b"GIF8": "a GIF, which is not read; save it as PNG",
    b"RIFF": "a WebP or another RIFF file, which is not read; save it as PNG",
    b"\x00\x00\x00\x0cjP  ": "a JPEG 2000 file outside DICOM, which is not read; save it as PNG",
}


class RadiographError(ValueError):
    """A file that cannot be read as a radiograph.

    Attributes:
        path: the file.
        reason: why, in a sentence that holds nothing of the file's name or content.
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
        spacing: distance of pixel centers (row, column) in mm, or None where the file does not say.
        info: how the picture came about: ``kind`` of file, ``mapping`` of gray values to [0, 1], whether it was
            ``inverted``, ``spacing_source``, ``view`` (PA, AP, FRONTAL, LATERAL, OBLIQUE or None), ``pixel_aspect``
            (height over width of a pixel), ``original_size`` and more. Never a name, id, date, UID or path.
    """

    pixels: NDArray[np.float32]
    spacing: tuple[float, float] | None = None
    info: dict[str, Any] = field(default_factory=dict)


def read_radiograph(path: str | os.PathLike[str], *, frame: int | None = None) -> Radiograph:
    """Read DICOM, PNG, JPEG, TIFF, BMP, NIfTI, MHA/MHD, NRRD, or one image of prepared shards (``index.npy#12``).

    Args:
        path: the file.
        frame: which frame of a file that has several, counted from 0; without it such a file is refused.

    Raises:
        RadiographError: names the file and says what is wrong with it.

    >>> from monai_anat.data import pretraining_datalist
    >>> radiograph = read_radiograph(pretraining_datalist()[0]["image"])
    >>> radiograph.pixels.dtype, radiograph.pixels.ndim, radiograph.info["mapping"]
    (dtype('float32'), 2, 'linear from 0..255')
    """
    decoded = decode(path, frame)
    return Radiograph(decoded.pixels, decoded.spacing, decoded.info)


def decode(path: str | os.PathLike[str], frame: int | None = None, *, label: bool = False) -> Decoded:
    """Decode a file; the half of ``read_radiograph`` that also serves label maps and preparation.

    Args:
        path: the file.
        frame: which frame of a file that has several.
        label: keep the stored values (a mask) and do not map gray values; orientation is handled alike.

    Raises:
        RadiographError: names the file and says what is wrong with it.
    """
    try:
        decoder = _decoder_for(path)
        return decoder(path, frame, label)
    except UnreadableError as error:
        raise RadiographError(path, error.reason, error.detail) from error
    except (FileNotFoundError, IsADirectoryError) as error:
        raise RadiographError(path, "there is no such file") from error
    except PermissionError as error:
        raise RadiographError(path, "the file must not be opened by this user") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise RadiographError(path, "the file is a link that leads in a circle") from error
        raise RadiographError(path, f"the file cannot be read from the disk ({type(error).__name__})") from error
    except MemoryError as error:
        raise RadiographError(path, "the image does not fit into memory") from error
    except Exception as error:
        # damaged files make third-party decoders fail in any way there is; the kind of failure is all that is passed on
        raise RadiographError(path, f"the file is damaged: decoding failed with {type(error).__name__}") from error


def has_image_mark(path: str | os.PathLike[str]) -> bool:
    """Say whether a file begins like a kind of image that is read, whatever its name says.

    Args:
        path: the file.
    """
    if not Path(path).is_file():
        return False
    with Path(path).open("rb") as handle:
        head = handle.read(HEAD_BYTES)
    # two letters are too few: a text may begin with them
    marks = tuple(mark for mark in _RASTER_MARKS if len(mark) > 2)
    return head[_PREAMBLE : _PREAMBLE + 4] == b"DICM" or head.startswith(marks) or bool(volume_kind(path, head))


def _decoder_for(path: str | os.PathLike[str]) -> Callable[[str | os.PathLike[str], int | None, bool], Decoded]:
    """Choose the decoder by what the file holds; its ending decides only where the content says nothing."""
    if ".npy#" in str(path).lower():
        return read_shard_image
    # a pipe or a socket would be waited for
    if Path(path).exists() and not Path(path).is_file():
        raise UnreadableError("there is no such file: the name is that of a folder, a pipe or a device")
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
    raise UnreadableError("the content is none of DICOM, PNG, JPEG, TIFF, BMP, NIfTI, MHA, NRRD (encrypted, perhaps?)")
