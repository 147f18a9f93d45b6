"""Decoder for PNG, JPEG, TIFF and BMP: gray, color, palette, alpha, 1 to 16 bits, 32 bits."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import itk
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from monai_anat.data.reading.decoded import Decoded, UnreadableError, check_size, check_total_size
from monai_anat.data.reading.gray_levels import scale_stored, to_gray
from monai_anat.data.reading.orientation import Turn, apply_turn
from monai_anat.data.reading.tiff import full_size_page, tiff_pages

__all__ = [
    "EXIF_TURNS",
    "chosen_frame",
    "decode_raster",
    "single_channel",
]

#: the Orientation tag of EXIF and TIFF, and the turn from the stored picture to the upright one
EXIF_TURNS = {
    1: Turn(),
    2: Turn(flip_columns=True),
    3: Turn(flip_rows=True, flip_columns=True),
    4: Turn(flip_rows=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, flip_columns=True),
    7: Turn(transpose=True, flip_rows=True, flip_columns=True),
    8: Turn(transpose=True, flip_rows=True),
}
#: tags of TIFF
_BITS, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _PLANES, _SAMPLE_FORMAT = 258, 259, 262, 274, 284, 339
_SAMPLES_PER_PIXEL, _RGB, _JPEG_IN_TIFF = 277, 2, (6, 7)
_PNG_COLORS = {2: 3, 4: 2, 6: 4}  # color type of a PNG -> channels, for types with several


def decode_raster(path: str | os.PathLike[str], frame: int | None = None, label: bool = False) -> Decoded:
    """Decode a raster image.

    Thumbnails and reduced copies in TIFF and MPO files are skipped. The resolution tag describes printing and is
    ignored, so the spacing is unknown.

    Args:
        path: the file.
        frame: page of a TIFF with several full-size pages.
        label: return the stored values of a mask.

    Raises:
        UnreadableError: if the image does not decode, is absurdly large, has several full-size pages and ``frame`` is
            None, or is a mask with colors.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns about large images; check_size refuses them
        try:
            with Image.open(path) as image:
                _choose_page(image, path, frame)
                check_size(image.height, image.width)
                kind, mode = str(image.format or "raster").lower(), image.mode
                turn = EXIF_TURNS.get(_orientation_code(image), Turn())
                inverted, lossy = _white_is_zero(image), _is_lossy(image)
                channels = _wide_channels(image, path)
                check_total_size((image.height, image.width, max(1, channels)))
                values = _read_words(path, channels, turn) if channels else _values(image, path, label)
        except Image.DecompressionBombError as error:
            raise UnreadableError("the image is absurdly large") from error
        except UnidentifiedImageError as error:
            raise UnreadableError(
                "the file starts like an image, but its header is damaged or its pixel type is not supported; save it "
                "as PNG with 8 or 16 bits"
            ) from error
        except (OSError, SyntaxError, ValueError, EOFError) as error:
            raise UnreadableError("the image is damaged or truncated", str(error)) from error
    info: dict[str, Any] = {
        "kind": "jpeg" if kind == "mpo" else kind,
        "mode": mode,
        "original_size": tuple(values.shape[:2]),
        "pixel_aspect": 1.0,
        "spacing_source": "unknown: a raster image has no spacing",
        "inverted": False,
        "lossy": lossy,
        "view": None,
    }
    states = turn != Turn()
    if label:
        pixels = single_channel(values)
        return Decoded(pixels, None, {**info, "mapping": "stored values"}, None, turn, states)
    pixels, mapping = scale_stored(to_gray(values) if values.ndim == 3 else values)
    if inverted:
        pixels = 1 - pixels
    return Decoded(pixels, None, {**info, "mapping": mapping, "inverted": inverted}, None, turn, states)


def chosen_frame(frames: int, frame: int | None) -> int:
    """Return the number of the frame to read.

    Args:
        frames: number of frames in the file.
        frame: the requested frame, or None.

    Raises:
        UnreadableError: if there are several frames and none was requested, or the requested one does not exist.

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


def single_channel(values: NDArray[Any]) -> NDArray[Any]:
    """Return the single channel of a mask.

    Args:
        values: (H, W) or (H, W, C) with C = 2 to 4; alpha is dropped.

    Raises:
        UnreadableError: if the channels differ, as in a picture that marks classes by colors.

    >>> single_channel(np.full((1, 1, 3), 2)).tolist()
    [[2]]
    """
    if values.ndim == 2:
        return values
    colors = values[..., :3] if values.shape[-1] > 2 else values[..., :1]
    if not (colors == colors[..., :1]).all():
        raise UnreadableError("the mask has colors instead of class numbers; save one gray value per class as PNG")
    return np.ascontiguousarray(values[..., 0])


def _choose_page(image: Image.Image, path: str | os.PathLike[str], frame: int | None) -> None:
    """Go to the page of the image: the requested one, or the only one of full size."""
    if image.format == "TIFF":
        pages = tiff_pages(path)
        full = full_size_page(pages) if frame is None else None
        image.seek(chosen_frame(len(pages), frame) if full is None else full)
        return
    frames = int(getattr(image, "n_frames", 1))
    if frames == 1 or (image.format == "MPO" and frame is None):
        image.seek(_largest_frame(image, frames))
    else:
        image.seek(chosen_frame(frames, frame))


def _largest_frame(image: Image.Image, frames: int) -> int:
    """The first of the largest frames of an MPO file; the others are previews or the second view of a pair."""
    areas = []
    for number in range(frames):
        image.seek(number)
        areas.append(image.height * image.width)
    return areas.index(max(areas))


def _orientation_code(image: Image.Image) -> int:
    """The Orientation tag of EXIF, XMP or TIFF; 1 if absent."""
    value = image.tag_v2.get(_ORIENTATION, 1) if isinstance(image, TiffImageFile) else image.getexif().get(_ORIENTATION)
    return value if isinstance(value, int) else 1


def _values(image: Image.Image, path: str | os.PathLike[str], label: bool) -> NDArray[Any]:
    """The values (H, W) or (H, W, C), turned upright by the orientation tag."""
    number_type = _tiff_type(image)
    step, white_is_zero = _gray_step(image, path)
    ImageOps.exif_transpose(image, in_place=True)  # without in_place it copies
    if image.mode in ("P", "PA") and not label:
        image = image.convert("RGBA" if "A" in image.mode else "RGB")
    elif image.mode in ("1", "YCbCr", "CMYK", "LAB", "HSV"):
        image = image.convert("L" if image.mode == "1" else "RGB")
    values = np.asarray(image)
    if number_type is not None:
        values = values.view(number_type)
    if label:
        # Pillow stretches 1, 2 and 4 bits to the range of bytes
        values = 255 - values if white_is_zero else values
        values = values // step if step > 1 else values
    # TIFF and some PNG writers swap bytes; arithmetic needs the native order
    return np.ascontiguousarray(values.astype(values.dtype.newbyteorder("="), copy=False))


def _gray_step(image: Image.Image, path: str | os.PathLike[str]) -> tuple[int, bool]:
    """The distance that Pillow puts between neighboring gray levels, and whether it reverses their order."""
    if image.mode not in ("1", "L"):
        return 1, False
    bits, white_is_zero = 1 if image.mode == "1" else 8, False
    if isinstance(image, TiffImageFile):
        bits = int(image.tag_v2.get(_BITS, (1,))[0])
        white_is_zero = image.tag_v2.get(_PHOTOMETRIC) == 0
    elif image.format == "PNG" and image.mode == "L":
        bits = _png_header(path)[0]
    return (255 // (2**bits - 1) if bits in (1, 2, 4) else 1), white_is_zero


def _png_header(path: str | os.PathLike[str]) -> tuple[int, int]:
    """Bits per channel and color type of a PNG file. IHDR is the first chunk in every file that Pillow opens."""
    with Path(path).open("rb") as file:
        head = file.read(26)
    return head[24], head[25]


def _wide_channels(image: Image.Image, path: str | os.PathLike[str]) -> int:
    """The number of channels of a picture with several channels of 16 bits, which Pillow cuts to 8; 0 for others."""
    if image.format == "PNG":
        bits, color_type = _png_header(path)
        return _PNG_COLORS.get(color_type, 0) if bits == 16 else 0
    if not isinstance(image, TiffImageFile):
        return 0
    tags = image.tag_v2
    channels = int(tags.get(_SAMPLES_PER_PIXEL, 1))
    if max(tags.get(_BITS, (1,))) <= 8 or channels == 1:
        return 0
    # ITK would fall back to 8 bits for other layouts
    if (
        tags.get(_PLANES, 1) != 1
        or tags.get(_PHOTOMETRIC) != _RGB
        or tags.get(_ORIENTATION, 1) != 1
        or len(tiff_pages(path)) > 1
        or set(tags[_BITS]) != {16}
    ):
        raise UnreadableError(
            "colors of more than 8 bits are supported in TIFF only as RGB of 16 bits, not in planes, turned or on "
            "several pages; save the file as gray PNG"
        )
    return channels


def _read_words(path: str | os.PathLike[str], channels: int, turn: Turn) -> NDArray[Any]:
    """The values (H, W, C) of a picture with 16 bits per channel, read by ITK."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError as error:
        raise UnreadableError("the file's name is not UTF-8, which ITK cannot open; rename the file") from error
    with Path(path).open("rb") as file:
        reader: Any = itk.PNGImageIO.New() if file.read(4) == b"\x89PNG" else itk.TIFFImageIO.New()
    try:
        image: Any = itk.imread(os.fspath(path), pixel_type=itk.VariableLengthVector[itk.US], imageio=reader)
    except RuntimeError as error:
        raise UnreadableError("the image is damaged or truncated", type(error).__name__) from error
    values = np.asarray(itk.array_from_image(image))
    if values.ndim != 3 or values.shape[-1] != channels:
        raise UnreadableError("the colors of 16 bits have a layout that is not supported; save the picture as gray PNG")
    return np.ascontiguousarray(np.stack([apply_turn(values[..., c], turn) for c in range(channels)], axis=-1))


def _white_is_zero(image: Image.Image) -> bool:
    """Whether a TIFF runs from white to black and Pillow keeps it so, which it does beyond 8 bits."""
    return isinstance(image, TiffImageFile) and image.tag_v2.get(_PHOTOMETRIC) == 0 and image.mode not in ("1", "L")


def _is_lossy(image: Image.Image) -> bool:
    """Whether JPEG compression changed the values."""
    is_jpeg_tiff = isinstance(image, TiffImageFile) and image.tag_v2.get(_COMPRESSION) in _JPEG_IN_TIFF
    return image.format in ("JPEG", "MPO") or is_jpeg_tiff


def _tiff_type(image: Image.Image) -> np.dtype[Any] | None:
    """The number type of a TIFF, if Pillow mistakes signed numbers for unsigned ones or the reverse.

    Raises:
        UnreadableError: for layouts that Pillow 13 decodes to a wrong picture.
    """
    if not isinstance(image, TiffImageFile):
        return None
    tags = image.tag_v2
    bits = tags.get(_BITS, (1,))[0]
    if tags.get(_ORIENTATION, 1) > 4 and tags.get(_COMPRESSION, 1) == 1:
        raise UnreadableError("the TIFF is on its side by its orientation tag and not compressed; save it as PNG")
    signed = tags.get(_SAMPLE_FORMAT, (1,))[0] == 2
    if bits == 8 and signed and image.mode == "L":
        return np.dtype(np.int8)
    return np.dtype(np.uint32) if bits == 32 and not signed and image.mode == "I" else None
