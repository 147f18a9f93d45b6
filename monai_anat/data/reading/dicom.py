"""DICOM decoder: gray values as a viewer shows them, air dark and bone bright, without patient data."""

from __future__ import annotations

import os
import re
import warnings
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import gdcm
import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_file_meta_info
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGExtended12Bit,
    RLELossless,
)

from monai_anat.data.reading.codestream import stream_shape
from monai_anat.data.reading.decoded import Decoded, UnreadableError, check_size, inflate
from monai_anat.data.reading.dicom_header import (
    body_part_of,
    header_number,
    header_texts,
    is_lossy,
    is_raw,
    lift_frame_groups,
    modality_of,
    spacing_of,
    transfer_syntax_of,
)
from monai_anat.data.reading.dicom_view import view_of
from monai_anat.data.reading.gray_levels import scale_by_percentiles, to_gray
from monai_anat.data.reading.orientation import Turn, apply_turn
from monai_anat.data.reading.raster import chosen_frame, single_channel
from monai_anat.data.reading.voi import Voi, map_gray, modality_values

__all__ = [
    "FIRST_ELEMENT",
    "decode_dicom",
]

#: tag and type of the character set, the first element of most data sets without file meta information
FIRST_ELEMENT = b"\x08\x00\x05\x00CS"
_NEEDED = ("Rows", "Columns", "BitsAllocated", "SamplesPerPixel", "PhotometricInterpretation")


def decode_dicom(path: str | os.PathLike[str], frame: int | None = None, label: bool = False) -> Decoded:
    """Decode a DICOM image.

    The steps are: modality LUT or rescale; VOI LUT, window (LINEAR, LINEAR_EXACT, SIGMOID) or percentiles; MONOCHROME1
    and presentation LUT. Raw images ("FOR PROCESSING") are mapped by their pixel intensity relationship. Overlays are
    not drawn, and padding becomes 0. Images that are mirrored, upside down or on their side by PatientOrientation are
    turned upright.

    Args:
        path: the file.
        frame: frame to read from a file with several.
        label: return the stored values, for a mask stored as a secondary capture.

    Raises:
        UnreadableError: if there are no pixel data, if they are truncated, too large or not decodable, or if the file
            has several frames and ``frame`` is None.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom's warnings quote the values of elements
        dataset = _open(path)
        values = _stored_values(path, dataset, frame)
        photometric = str(dataset.get("PhotometricInterpretation", "")).strip().upper()
        if label:
            pixels, voi, inverted = single_channel(values), Voi("stored values"), False
        elif values.ndim == 3:
            pixels, voi, inverted = _color(values, dataset), Voi("luminance of color"), False
        else:
            pixels, voi, inverted = _monochrome(values, dataset, photometric)
        turn, turned, is_stated = _orientation_turn(header_texts(dataset.get("PatientOrientation")))
        pixels = apply_turn(pixels, turn)
        spacing, spacing_source, aspect = spacing_of(dataset)
        if turn.transpose:
            spacing = (spacing[1], spacing[0]) if spacing else None
            aspect = 1 / aspect
        info: dict[str, Any] = {
            "kind": "dicom",
            "mapping": voi.words,
            "inverted": inverted,
            "photometric": photometric if re.fullmatch(r"[A-Z0-9_ ]{3,16}", photometric) else "",
            "transfer_syntax": transfer_syntax_of(dataset),
            "modality": modality_of(dataset),
            "body_part": body_part_of(dataset),
            "view": view_of(dataset),
            "raw": is_raw(dataset),
            "lossy": is_lossy(dataset),
            "bits_stored": int(dataset.get("BitsStored", 0) or 0),
            "frames": int(dataset.get("NumberOfFrames", 1) or 1),
            "original_size": tuple(values.shape[:2]),
            "spacing_source": spacing_source,
            "pixel_aspect": aspect,
            "turned": turned,
        }
        patient = str(dataset.get("PatientID", "") or "").strip() or None
    return Decoded(np.ascontiguousarray(pixels), spacing, info, patient, turn, is_stated)


def _open(path: str | os.PathLike[str]) -> pydicom.Dataset:
    """Read a data set, with or without preamble and file meta information."""
    try:
        dataset = pydicom.dcmread(_readable_form(path), force=True)
    except UnreadableError:
        raise
    except Exception as error:
        # a damaged header raises many kinds of exceptions, whose texts would not help
        raise UnreadableError(f"the DICOM header is damaged ({type(error).__name__})") from error
    if (
        "MediaStorageDirectoryStorage" in str(dataset.get("MediaStorageSOPClassUID", ""))
        or "DirectoryRecordSequence" in dataset
    ):
        raise UnreadableError("the file is a DICOMDIR, an index of other files")
    if not any(name in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        if _is_cut_off(path):
            raise UnreadableError("the pixel data are truncated")
        modality = modality_of(dataset)
        raise UnreadableError(f"the DICOM file holds no pixel data{f' (modality {modality})' if modality else ''}")
    photometric = dataset.get("PhotometricInterpretation")
    if isinstance(photometric, str) and photometric != photometric.strip().upper():
        dataset.PhotometricInterpretation = photometric.strip().upper()
    if dataset.get("SamplesPerPixel") == 3 and dataset.get("PlanarConfiguration") is None:
        dataset.PlanarConfiguration = 0  # the default of all viewers
    numbers = ("BitsStored", "PixelRepresentation") if "PixelData" in dataset else ()
    for name in (*_NEEDED, *numbers):
        if not isinstance(dataset.get(name), str if name == "PhotometricInterpretation" else int):
            raise UnreadableError(f"the DICOM header lacks {name}")
    check_size(int(dataset.Rows), int(dataset.Columns))
    meta = getattr(dataset, "file_meta", None)
    if meta is None or "TransferSyntaxUID" not in meta:
        dataset.file_meta = meta if meta is not None else FileMetaDataset()
        implicit, little = dataset.original_encoding
        if implicit:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        else:
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    return dataset


def _is_cut_off(path: str | os.PathLike[str]) -> bool:
    """Whether the file ends within its pixel data. pydicom skips an element without an end."""
    with Path(path).open("rb") as handle:
        try:
            pydicom.dcmread(handle, stop_before_pixels=True, force=True)
        except Exception:
            return False  # the place of the cut is unknown
        return handle.read(4) in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10")


def _readable_form(path: str | os.PathLike[str]) -> str | os.PathLike[str] | BytesIO:
    """The file in a form that pydicom reads safely.

    A cut-off header leaves stray bytes before the first element, which are removed. A deflated data set is unpacked
    here, because pydicom unpacks without a limit.
    """
    with Path(path).open("rb") as handle:
        head = handle.read(132)
        start = head.find(FIRST_ELEMENT)
        has_meta = head[:2] in (b"\x02\x00", b"\x00\x02")
        if head[128:] == b"DICM" or has_meta:
            handle.seek(0 if has_meta else 132)
            return _inflated(handle) or path
        if start <= 0:
            return path
        handle.seek(start)
        return BytesIO(handle.read())


def _inflated(handle: BinaryIO) -> BytesIO | None:
    """A deflated file in explicit little endian, or None for other transfer syntaxes.

    Args:
        handle: the file, at its file meta information.
    """
    try:
        found = read_dataset(handle, False, True, stop_when=lambda tag, vr, length: tag.group != 2)
        meta = FileMetaDataset(found)
    except Exception:
        return None  # reading the whole file fails with the better message
    if meta.get("TransferSyntaxUID") != DeflatedExplicitVRLittleEndian:
        return None
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = DicomBytesIO(bytes(128) + b"DICM")
    content.seek(0, os.SEEK_END)
    write_file_meta_info(content, meta, enforce_standard=False)
    return BytesIO(content.getvalue() + inflate(handle, wbits=-zlib.MAX_WBITS))


def _stored_values(path: str | os.PathLike[str], dataset: pydicom.Dataset, frame: int | None) -> NDArray[Any]:
    """The stored values of one frame, (H, W) or (H, W, 3), without overlay bits and with the sign extended."""
    try:
        frames = max(1, int(dataset.get("NumberOfFrames", 1) or 1))
    except (TypeError, ValueError):
        frames = 1
    index = chosen_frame(frames, frame)
    lift_frame_groups(dataset, index)
    _check_stream(dataset, index, frames)
    try:
        with _all_bits(dataset):
            values: NDArray[Any] = pixel_array(dataset, index=index)
    except Exception as error:
        # pydicom refuses 12-bit JPEG, which gdcm can decode
        extended = dataset.file_meta.TransferSyntaxUID == JPEGExtended12Bit
        decoded = _decode_by_gdcm(path, index) if extended else None
        if decoded is not None:
            return _used_bits(decoded, dataset)
        syntax = transfer_syntax_of(dataset)
        short = isinstance(error, ValueError) and "less than expected" in str(error)
        reason = "the pixel data are truncated" if short else f"the pixel data do not decode ({syntax})"
        raise UnreadableError(reason, type(error).__name__) from error
    if str(dataset.get("PhotometricInterpretation", "")).strip() == "PALETTE COLOR":
        values = apply_color_lut(values, dataset)
        if values.dtype == np.uint16 and values.max(initial=0) > 255:
            values = (values >> 8).astype(np.uint8)
    if values.ndim == 2 and np.issubdtype(values.dtype, np.integer):
        return _used_bits(values, dataset)
    photometric = str(dataset.PhotometricInterpretation)
    if values.ndim == 3 and not photometric.startswith(("RGB", "YBR_", "PALETTE")):
        raise UnreadableError("colors of this photometric interpretation are not supported")
    if values.ndim not in (2, 3) or values.shape[-1] == 0:
        raise UnreadableError(f"the pixel data have {values.ndim} axes; a radiograph has two")
    return values


def _check_stream(dataset: pydicom.Dataset, index: int, frames: int) -> None:
    """Refuse a compressed picture with a size or number of colors that differs from the header.

    Raises:
        UnreadableError: if they differ. The message states both.
    """
    try:
        offsets = (dataset.ExtendedOffsetTable, dataset.ExtendedOffsetTableLengths)
    except AttributeError:
        offsets = None
    try:
        if not dataset.file_meta.TransferSyntaxUID.is_compressed:
            return
        stream = get_frame(dataset.PixelData, index, number_of_frames=frames, extended_offsets=offsets)
    except Exception:
        return  # the decoder reports the fault
    shape = stream_shape(stream)
    stated = int(dataset.Rows), int(dataset.Columns), int(dataset.SamplesPerPixel)
    if shape is not None and shape != stated:
        raise UnreadableError(
            f"the header announces {stated[0]} x {stated[1]} pixels of {stated[2]} colors, the compressed picture has "
            f"{shape[0]} x {shape[1]} of {shape[2]}"
        )


def _codec_knows_bits(dataset: pydicom.Dataset) -> bool:
    """Whether the compressed data define the significant bits themselves. All codecs do except run lengths (RLE)."""
    syntax = dataset.file_meta.TransferSyntaxUID
    return bool(syntax.is_compressed) and syntax != RLELossless


@contextmanager
def _all_bits(dataset: pydicom.Dataset) -> Iterator[None]:
    """Make pydicom return whole words. It would cut them to BitsStored and ignore HighBit."""
    stored, high = dataset.get("BitsStored"), dataset.get("HighBit")
    allocated = dataset.get("BitsAllocated")
    if _codec_knows_bits(dataset) or stored is None or high is None or high == stored - 1:
        yield
        return
    dataset.BitsStored, dataset.HighBit = allocated, allocated - 1
    try:
        yield
    finally:
        dataset.BitsStored, dataset.HighBit = stored, high


def _decode_by_gdcm(path: str | os.PathLike[str], index: int) -> NDArray[Any] | None:
    """The stored values of one gray frame, decoded by gdcm directly, or None."""
    gdcm.Trace.WarningOff()
    gdcm.Trace.ErrorOff()
    reader = gdcm.ImageReader()
    try:
        reader.SetFileName(os.fspath(path))
    except TypeError as error:
        raise UnreadableError("the file's name is not UTF-8, which gdcm cannot open; rename the file") from error
    if not reader.Read():
        return None
    image = reader.GetImage()
    types = {gdcm.PixelFormat.UINT8: "u1", gdcm.PixelFormat.UINT16: "<u2", gdcm.PixelFormat.INT16: "<i2"}
    code = types.get(image.GetPixelFormat().GetScalarType())
    if code is None or image.GetPixelFormat().GetSamplesPerPixel() != 1:
        return None
    # gdcm returns bytes as text
    content = image.GetBuffer().encode("utf-8", "surrogateescape")
    columns, rows = image.GetDimension(0), image.GetDimension(1)
    values = np.frombuffer(content, dtype=code)
    frames = values.size // (rows * columns)
    return values.reshape(frames, rows, columns)[index] if index < frames else None


def _used_bits(values: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[Any]:
    """The bits from BitsStored to HighBit. Older files keep overlays in the other bits."""
    allocated = values.dtype.itemsize * 8
    stored = int(dataset.get("BitsStored", allocated) or allocated)
    high = int(dataset.get("HighBit", stored - 1) or stored - 1)
    if not 0 < stored <= allocated or not stored - 1 <= high < allocated:
        return values
    signed = bool(dataset.get("PixelRepresentation", 0))
    if _codec_knows_bits(dataset) or (stored == allocated and high == stored - 1):
        return values
    shift = high + 1 - stored
    if shift and values.min() >= 0 and values.max() < 1 << stored and np.any(values & ((1 << shift) - 1)):
        shift = 0  # a wrong HighBit: the bits above it are empty, and the bits below it are in use
    wide = values.astype(np.int64) >> shift
    wide &= (1 << stored) - 1
    if signed:
        wide = np.where(wide >= 1 << (stored - 1), wide - (1 << stored), wide)
    return wide.astype(np.int32)


def _color(values: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.float32]:
    gray = to_gray(values)
    top = float(np.iinfo(gray.dtype).max) if np.issubdtype(gray.dtype, np.integer) else 1.0
    stored = 2.0 ** header_number(dataset, "BitsStored", 8) - 1
    # 12 bits in 16; the colors of a palette may have more bits than its indices
    top = stored if gray.max(initial=0) <= stored < top else top
    return np.asarray(np.clip(gray.astype(np.float32) / np.float32(top), 0, 1), dtype=np.float32)


def _monochrome(
    values: NDArray[Any], dataset: pydicom.Dataset, photometric: str
) -> tuple[NDArray[np.float32], Voi, bool]:
    """Gray values as a viewer shows them, bone bright."""
    valid = _valid(values, dataset)
    if valid is not None and values.dtype.kind == "f":
        values = np.where(np.isfinite(values), values, values[valid].min())
    shape = str(dataset.get("PresentationLUTShape", "") or "").strip().upper()
    # MONOCHROME1 and INVERSE together are one inversion (DICOM PS3.3, C.8.11.3)
    inverted = photometric == "MONOCHROME1" or shape == "INVERSE"
    outputs = modality_values(values, dataset)
    if is_raw(dataset):
        relation = str(dataset.get("PixelIntensityRelationship", "") or "").strip().upper()
        sign = dataset.get("PixelIntensityRelationshipSign")
        if sign in (1, -1):
            # 1: larger values mean more X-rays, so stored air is bright
            inverted = sign == 1
        words = ""
        if relation == "LIN":
            if sign == -1:
                # values count down from the largest number of the stored bits
                most = np.asarray([[2 ** int(dataset.get("BitsStored", 16)) - 1]])
                outputs, inverted = modality_values(most, dataset).astype(np.float32) - outputs, True
            # attenuation is the logarithm of the dose; no detector covers four decades
            outputs = np.log(np.maximum(outputs, max(float(outputs.max()) * 1e-4, 1e-6)))
            words = "logarithm, then "
        pixels, mapping = scale_by_percentiles(outputs, valid)
        voi = Voi(words + mapping + ", raw image")
    else:
        pixels, voi = map_gray(outputs, dataset, valid)
    if inverted:
        pixels = 1 - pixels
    if valid is not None:
        pixels = np.where(valid, pixels, np.float32(0))
    return pixels.astype(np.float32, copy=False), voi, inverted


def _valid(values: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.bool_] | None:
    """Mask of the pixels with image content: finite, and outside the range of PixelPaddingValue."""
    finite = np.isfinite(values) if values.dtype.kind == "f" else None
    if finite is not None and not finite.any():
        raise UnreadableError("no pixel has a finite value")
    if dataset.get("PixelPaddingValue") in (None, ""):
        return None if finite is None or finite.all() else finite
    first = header_number(dataset, "PixelPaddingValue", 0)
    last = header_number(dataset, "PixelPaddingRangeLimit", first)
    if dataset.get("PixelRepresentation", 0) == 1:
        # some writers store a negative number as the unsigned one with the same bits
        first, last = (number - 65536 if number > 32767 else number for number in (first, last))
    else:  # and the reverse
        first, last = (number + 65536 if number < 0 else number for number in (first, last))
    low, high = min(first, last), max(first, last)
    valid = (values < low) | (values > high)
    valid = valid if finite is None else valid & finite
    # a tag that makes the whole picture padding is wrong
    return np.asarray(valid) if valid.mean() > 0.05 and not valid.all() else None


def _orientation_turn(orientation: Sequence[str]) -> tuple[Turn, str, bool]:
    """The turn that PatientOrientation requests, its description, and whether the tag is usable.

    In the upright picture, columns run to the patient's left (frontal views) and rows to the feet.
    """
    if len(orientation) != 2:
        return Turn(), f"no: PatientOrientation {'malformed' if orientation else 'absent'}", False
    row, column = (text[:1] for text in orientation)
    words, turn = [], Turn()
    if row in ("F", "H") and column in ("L", "R", "A", "P"):
        turn, (row, column) = Turn(transpose=True), (column, row)
        words.append("transposed")
    if row == "R" and column in ("F", "H"):
        turn = turn.then(Turn(flip_columns=True))
        words.append("mirrored")
    if column == "H" and row in ("L", "R", "A", "P"):
        turn = turn.then(Turn(flip_rows=True))
        words.append("flipped upside down")
    is_stated = row in ("L", "R", "A", "P") and column in ("F", "H")
    return turn, ", ".join(words) + ", by PatientOrientation" if words else "no", is_stated
