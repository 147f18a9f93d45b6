"""PNG, JPEG, TIFF and BMP: gray, color, palette, alpha, 8, 16 and 32 bits."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from monai_anat.data.reading.decoding import Decoded, UnreadableError, check_size, scale_stored, to_gray

__all__ = [
    "chosen_frame",
    "decode_raster",
]

#: tags of TIFF
_BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _PLANES, _SAMPLE_FORMAT = 258, 259, 262, 274, 284, 339


def decode_raster(path: str | os.PathLike[str], frame: int | None = None, label: bool = False) -> Decoded:
    """Decode a raster image; spacing is never taken from its resolution tag, which speaks of printing.

    Args:
        path: the file.
        frame: page of a TIFF with several.
        label: keep the stored values.

    Raises:
        UnreadableError: it does not decode, is absurdly large, or has several pages and none was chosen.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of large images; the limit below is ours
        try:
            with Image.open(path) as image:
                check_size(image.height, image.width)
                frames = getattr(image, "n_frames", 1)
                if frames > 1:
                    image.seek(chosen_frame(frames, frame))
                kind, mode = str(image.format or "raster").lower(), image.mode
                inverted = _white_is_zero(image)
                values = _values(image, label)
        except Image.DecompressionBombError as error:
            raise UnreadableError("the image is absurdly large") from error
        except UnidentifiedImageError as error:
            raise UnreadableError(
                "the file starts like an image, but its header is damaged or it holds a kind of pixels that is not "
                "read; a PNG of 8 or 16 bits is"
            ) from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise UnreadableError("the image is damaged or truncated", str(error)) from error
    info: dict[str, Any] = {
        "kind": kind,
        "mode": mode,
        "original_size": tuple(values.shape[:2]),
        "pixel_aspect": 1.0,
        "spacing_source": "unknown: a raster image does not say",
        "inverted": False,
        "view": None,
    }
    if label:
        return Decoded(values, None, {**info, "mapping": "stored values"})
    pixels, mapping = scale_stored(values)
    if inverted:
        pixels = 1 - pixels
    return Decoded(pixels, None, {**info, "mapping": mapping, "inverted": inverted})


def chosen_frame(frames: int, frame: int | None) -> int:
    """Return the number of the frame to read, or refuse.

    Args:
        frames: how many there are.
        frame: the one asked for, or None.

    Raises:
        UnreadableError: there are several and none was chosen, or there is no such frame.

    >>> chosen_frame(1, None)
    0
    """
    if frame is None and frames == 1:
        return 0
    if frame is None:
        raise UnreadableError(f"the file has {frames} frames; choose one with frame=0..{frames - 1}")
    if not 0 <= frame < frames:
        raise UnreadableError(f"frame must be in 0..{frames - 1}, got {frame}")
    return frame


def _values(image: Image.Image, label: bool) -> NDArray[Any]:
    """The stored values as one gray plane, turned as the file's orientation tag asks."""
    number_type = _tiff_type(image)
    ImageOps.exif_transpose(image, in_place=True)  # else it copies
    if image.mode in ("P", "PA") and not label:
        image = image.convert("RGB")
    elif image.mode in ("1", "YCbCr", "CMYK", "LAB", "HSV"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    values = np.asarray(image)
    if number_type is not None:
        values = values.view(number_type)
    if values.ndim == 3:
        values = values[..., 0] if label else to_gray(values)
    # TIFF and some PNG writers swap bytes; arithmetic wants the machine's order
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))


def _white_is_zero(image: Image.Image) -> bool:
    """Whether the values of a TIFF run from white to black: Pillow turns them round up to 8 bits, not beyond."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0 and image.mode not in ("1", "L")


def _tiff_type(image: Image.Image) -> np.dtype[Any] | None:
    """The numbers that a TIFF holds, where Pillow takes signed ones for unsigned ones or the reverse.

    Raises:
        UnreadableError: what Pillow 13 reads without a word as a wrong picture.
    """
    if not isinstance(image, TiffImageFile):
        return None
    tags = image.tag_v2
    bits = tags.get(_BITS, (1,))[0]
    if bits > 8 and tags.get(_PLANES) == 2 and len(image.getbands()) > 1:
        raise UnreadableError("the TIFF holds colors of 16 bits in planes, which are not read; a gray one is")
    if tags.get(_ORIENTATION, 1) > 4 and tags.get(_COMPRESSION, 1) == 1:
        raise UnreadableError("the TIFF lies on its side by its tag and is not compressed, which is not read; PNG is")
    signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
    if bits == 8 and signed and image.mode == "L":
        return np.dtype(np.int8)
    return np.dtype(np.uint32) if bits == 32 and not signed and image.mode == "I" else None
