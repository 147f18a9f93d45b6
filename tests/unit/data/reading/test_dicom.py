from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from monai_anat.data import read_radiograph, synthetic_radiograph
from monai_anat.data.reading.dicom import decode_dicom
from monai_anat.data.reading.radiograph import RadiographError

MakeDicom = Callable[..., Path]


@pytest.fixture
def picture() -> np.ndarray:
    """A 12-bit chest."""
    return np.round(synthetic_radiograph((48, 40))[0] * 4095).astype(np.uint16)


def _pixels(path: Path) -> np.ndarray:
    return read_radiograph(path).pixels


def test_every_inverted_encoding_is_read_bone_bright(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray
) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12, "HighBit": 11}
    plain = _pixels(make_dicom(tmp_path / "2.dcm", picture, **window))
    flipped = 4095 - picture
    for elements in (
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "INVERSE"},
        {"PhotometricInterpretation": "MONOCHROME1", "PresentationLUTShape": "IDENTITY"},
    ):
        inverted = read_radiograph(make_dicom(tmp_path / "1.dcm", flipped, **window, **elements))
        assert inverted.info["inverted"]
        np.testing.assert_allclose(inverted.pixels, plain, atol=1e-3)


@pytest.mark.parametrize(
    "syntax",
    [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian],
    ids=["implicit", "big", "deflated"],
)
def test_byte_order_and_deflation_change_nothing(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray, syntax: str
) -> None:
    plain = _pixels(make_dicom(tmp_path / "a.dcm", picture))
    np.testing.assert_array_equal(_pixels(make_dicom(tmp_path / "b.dcm", picture, syntax)), plain)


def test_run_length_encoding_changes_nothing(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    plain = make_dicom(tmp_path / "a.dcm", picture)
    dataset = pydicom.dcmread(plain)
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "b.dcm")
    np.testing.assert_array_equal(_pixels(tmp_path / "b.dcm"), _pixels(plain))


def test_file_without_preamble_and_meta_information(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    plain = make_dicom(tmp_path / "a.dcm", picture, ImplicitVRLittleEndian)
    dataset = pydicom.dcmread(plain)
    del dataset.file_meta
    dataset.save_as(tmp_path / "b.dcm", enforce_file_format=False, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(_pixels(tmp_path / "b.dcm"), _pixels(plain))


def test_stray_bytes_of_a_cut_off_header_are_skipped(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray
) -> None:
    plain = make_dicom(tmp_path / "a.dcm", picture, SpecificCharacterSet="ISO_IR 100")
    whole = plain.read_bytes()
    (tmp_path / "b.dcm").write_bytes(b" " + whole[whole.index(b"\x08\x00\x05\x00CS") :])
    np.testing.assert_array_equal(_pixels(tmp_path / "b.dcm"), _pixels(plain))


def test_overlay_in_the_high_bits_is_not_drawn(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    elements = {"BitsStored": 12, "HighBit": 11, "WindowCenter": 2048, "WindowWidth": 4096}
    overlay = picture | np.where(np.eye(48, 40) > 0, 0x8000, 0).astype(np.uint16)
    clean = _pixels(make_dicom(tmp_path / "a.dcm", picture, **elements))
    np.testing.assert_array_equal(_pixels(make_dicom(tmp_path / "b.dcm", overlay, **elements)), clean)


def test_high_bit_above_stored_bits_is_shifted_down(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12}
    low = _pixels(make_dicom(tmp_path / "a.dcm", picture, HighBit=11, **window))
    high = _pixels(make_dicom(tmp_path / "b.dcm", picture << 4, HighBit=15, **window))
    np.testing.assert_array_equal(high, low)
    framed = (picture << 2) | 0xC003  # something else in the bits above and below
    np.testing.assert_array_equal(_pixels(make_dicom(tmp_path / "c.dcm", framed, HighBit=13, **window)), low)


def test_a_wrong_high_bit_does_not_shift(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    """HighBit places the twelve bits at the top, but they are at the bottom."""
    window = {"BitsStored": 12, "WindowCenter": 2048, "WindowWidth": 4096}
    plain = make_dicom(tmp_path / "a.dcm", picture, HighBit=11, **window)
    wrong = make_dicom(tmp_path / "b.dcm", picture, HighBit=15, **window)
    np.testing.assert_array_equal(_pixels(wrong), _pixels(plain))


def test_signed_values_of_twelve_bits(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    signed = picture.astype(np.int16) - 2048
    stored = np.where(signed < 0, signed + 4096, signed).astype(np.int16)  # upper bits cleared, as some devices do
    window = {"WindowCenter": 0, "WindowWidth": 4096, "BitsStored": 12, "HighBit": 11}
    plain = _pixels(make_dicom(tmp_path / "a.dcm", signed, **{**window, "BitsStored": 16, "HighBit": 15}))
    np.testing.assert_array_equal(_pixels(make_dicom(tmp_path / "b.dcm", stored, **window)), plain)


def test_padding_is_black_and_does_not_pull_the_percentiles(tmp_path: Path, make_dicom: MakeDicom) -> None:
    values = np.round(synthetic_radiograph(64)[0] * 1000).astype(np.int16)
    values[:, :20] = -30000
    path = make_dicom(tmp_path / "a.dcm", values, PixelPaddingValue=-30000)
    read = read_radiograph(path)
    assert read.pixels[:, :20].max() == 0
    assert read.pixels[:, 20:].std() > 0.1


def test_padding_stays_black_after_inversion(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    picture[:8] = 0
    picture[8:] |= 1
    path = make_dicom(tmp_path / "a.dcm", picture, PixelPaddingValue=0, PhotometricInterpretation="MONOCHROME1")
    assert _pixels(path)[:8].max() == 0


def test_raw_image_of_transmitted_rays_comes_out_bone_bright(tmp_path: Path, make_dicom: MakeDicom) -> None:
    chest, lungs = synthetic_radiograph(64)
    rays = np.round(60000 * np.exp(-4 * chest)).astype(np.uint16)  # much passes through air
    path = make_dicom(
        tmp_path / "raw.dcm",
        rays,
        PresentationIntentType="FOR PROCESSING",
        PixelIntensityRelationship="LIN",
        PixelIntensityRelationshipSign=1,
    )
    read = read_radiograph(path)
    assert read.info["raw"] and "logarithm" in read.info["mapping"]
    assert np.corrcoef(read.pixels.ravel(), chest.ravel())[0, 1] > 0.95
    assert read.pixels[lungs > 0].mean() < read.pixels[28:36, 30:34].mean()


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (["L", "F"], lambda p: p),
        (["R", "F"], lambda p: p[:, ::-1]),
        (["L", "H"], lambda p: p[::-1]),
        (["F", "L"], lambda p: p.T),
        (["H", "R"], lambda p: p.T[::-1, ::-1]),
        (["A", "F"], lambda p: p),
        (["P", "H"], lambda p: p[::-1]),
    ],
)
def test_patient_orientation_turns_the_picture_upright(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray, orientation: list[str], turn: Callable[..., np.ndarray]
) -> None:
    plain = _pixels(make_dicom(tmp_path / "a.dcm", picture))
    turned = read_radiograph(
        make_dicom(tmp_path / "b.dcm", picture, PatientOrientation=orientation, PixelSpacing=[0.2, 0.1])
    )
    np.testing.assert_array_equal(turned.pixels, turn(plain))
    assert turned.spacing == ((0.1, 0.2) if orientation[0] in "FH" else (0.2, 0.1))


def test_spacing_and_where_it_comes_from(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    cases = [
        ({"PixelSpacing": [0.2, 0.1]}, (0.2, 0.1), "PixelSpacing", 2.0),
        ({"ImagerPixelSpacing": [0.14, 0.14]}, (0.14, 0.14), "at the detector", 1.0),
        ({"PixelAspectRatio": [2, 1]}, None, "only PixelAspectRatio", 2.0),
        ({"PixelSpacing": [0, 0]}, None, "unknown", 1.0),
        ({}, None, "unknown", 1.0),
    ]
    for elements, spacing, words, aspect in cases:
        read = read_radiograph(make_dicom(tmp_path / "a.dcm", picture, **elements))
        assert read.spacing == spacing and read.info["pixel_aspect"] == pytest.approx(aspect)
        assert words in read.info["spacing_source"]


def test_color_and_palette_become_luminance(tmp_path: Path, make_dicom: MakeDicom) -> None:
    color = np.zeros((8, 8, 3), dtype=np.uint8)
    color[..., 1] = 200
    path = make_dicom(
        tmp_path / "a.dcm", color, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
    )
    np.testing.assert_allclose(_pixels(path), 0.587 * 200 / 255, atol=2e-3)


def test_frames_are_chosen_or_refused(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    film = np.stack([np.zeros_like(picture), picture])
    path = make_dicom(tmp_path / "a.dcm", film, NumberOfFrames=2, Rows=48, Columns=40)
    with pytest.raises(RadiographError, match=r"2 frames; choose one with frame=0\.\.1"):
        read_radiograph(path)
    with pytest.raises(RadiographError, match="frame must be in"):
        read_radiograph(path, frame=2)
    single = _pixels(make_dicom(tmp_path / "b.dcm", picture))
    np.testing.assert_array_equal(read_radiograph(path, frame=1).pixels, single)


def test_run_lengths_keep_high_bits_and_overlays_as_they_were(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray
) -> None:
    window = {"WindowCenter": 2048, "WindowWidth": 4096, "BitsStored": 12}
    expected = _pixels(make_dicom(tmp_path / "a.dcm", picture, HighBit=11, **window))
    for name, values, high in (("shifted", picture << 4, 15), ("overlay", picture | 0x8000, 11)):
        dataset = pydicom.dcmread(make_dicom(tmp_path / "b.dcm", values, HighBit=high, **window))
        dataset.compress(RLELossless)
        dataset.save_as(tmp_path / "c.dcm")
        np.testing.assert_array_equal(_pixels(tmp_path / "c.dcm"), expected, err_msg=name)


def test_meta_information_without_preamble_is_kept(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    """The character set may appear early enough in a file to look like the start of a cut-off header."""
    plain = make_dicom(tmp_path / "a.dcm", picture, ExplicitVRBigEndian, SpecificCharacterSet="ISO_IR 100")
    whole = plain.read_bytes()
    data_set = whole[whole.index(b"\x00\x08\x00\x05CS") :]
    meta = b"\x02\x00\x10\x00UI\x14\x00" + b"1.2.840.10008.1.2.2\0"
    (tmp_path / "b.dcm").write_bytes(meta + data_set)
    np.testing.assert_array_equal(_pixels(tmp_path / "b.dcm"), _pixels(plain))
    dataset = pydicom.dcmread(make_dicom(tmp_path / "c.dcm", picture, SpecificCharacterSet="ISO_IR 100"))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "c.dcm")
    whole = (tmp_path / "c.dcm").read_bytes()
    meta = b"\x02\x00\x10\x00UI\x14\x00" + b"1.2.840.10008.1.2.5\0"
    (tmp_path / "d.dcm").write_bytes(meta + whole[whole.index(b"\x08\x00\x05\x00CS") :])
    np.testing.assert_array_equal(_pixels(tmp_path / "d.dcm"), _pixels(plain))


def test_an_enhanced_file_is_mapped_by_its_frame_groups(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray
) -> None:
    shared, own, other = Dataset(), Dataset(), Dataset()
    for group, sequence, elements in (
        (shared, "PixelValueTransformationSequence", {"RescaleSlope": -1, "RescaleIntercept": 4095}),
        (shared, "PixelMeasuresSequence", {"PixelSpacing": [0.2, 0.2]}),
        (other, "FrameVOILUTSequence", {"WindowCenter": -9000, "WindowWidth": 2}),
        (own, "FrameVOILUTSequence", {"WindowCenter": 2048, "WindowWidth": 4096}),
    ):
        item = Dataset()
        for name, value in elements.items():
            setattr(item, name, value)
        setattr(group, sequence, [item])
    path = make_dicom(
        tmp_path / "a.dcm",
        np.stack([picture, 4095 - picture]),
        NumberOfFrames=2,
        Rows=48,
        Columns=40,
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[other, own],
    )
    read = read_radiograph(path, frame=1)
    plain = _pixels(make_dicom(tmp_path / "b.dcm", picture, WindowCenter=2048, WindowWidth=4096))
    np.testing.assert_allclose(read.pixels, plain, atol=1e-5)
    assert read.spacing == (0.2, 0.2)


def test_colors_of_twelve_bits_fill_the_range(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    path = make_dicom(
        tmp_path / "a.dcm",
        np.stack([picture] * 3, axis=-1),
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        BitsStored=12,
        HighBit=11,
    )
    np.testing.assert_allclose(_pixels(path), picture / 4095, atol=1e-6)


@pytest.mark.parametrize("bits", [4, 6, 7])
def test_few_bits_fill_the_range(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray, bits: int) -> None:
    few = (picture >> (12 - bits)).astype(np.uint8)
    path = make_dicom(tmp_path / "a.dcm", few, BitsStored=bits, HighBit=bits - 1)
    np.testing.assert_allclose(_pixels(path), few / (2**bits - 1), atol=1e-6)


def test_padding_in_odd_forms(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    plain = _pixels(make_dicom(tmp_path / "a.dcm", picture))
    unset = make_dicom(tmp_path / "b.dcm", picture, PixelPaddingValue=5000, PixelPaddingRangeLimit="")
    np.testing.assert_array_equal(_pixels(unset), plain)
    signed = picture.astype(np.int16)
    signed[:, :20] = -2000
    path = make_dicom(tmp_path / "c.dcm", signed)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "US", 65536 - 2000)
    dataset.save_as(path)
    read = read_radiograph(path)
    assert read.pixels[:, :20].max() == 0 and "from -2000" not in read.info["mapping"]


def test_negative_padding_of_unsigned_values(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    padded = picture.copy()
    padded[:, :8] = 65535
    path = make_dicom(tmp_path / "a.dcm", padded, WindowCenter=2048, WindowWidth=4096)
    dataset = pydicom.dcmread(path)
    dataset.add_new("PixelPaddingValue", "SS", -1)
    dataset.save_as(path)
    assert _pixels(path)[:, :8].max() == 0 and _pixels(path)[:, 8:].max() > 0.5


def _pack(path: Path, values: np.ndarray, **elements: object) -> Path:
    """Put a JPEG of ``values`` in the place of the pixels, and describe it in the header."""
    handle = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).save(handle, "JPEG", quality=97)
    dataset = pydicom.dcmread(path)
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.PixelData = encapsulate([handle.getvalue()])
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    dataset.save_as(path)
    return path


def test_a_packed_picture_of_another_size_than_its_header_is_refused(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray
) -> None:
    """Decoders return the bytes, and reshaping them to other rows gives a meaningless picture."""
    gray = (picture >> 4).astype(np.uint8)
    path = make_dicom(tmp_path / "a.dcm", gray)
    np.testing.assert_allclose(_pixels(_pack(path, gray)), gray / 255, atol=0.05)
    with pytest.raises(RadiographError, match=r"header announces 40 x 48 pixels of 1 colors, .* has 48 x 40 of 1"):
        read_radiograph(_pack(path, gray, Rows=40, Columns=48))
    with pytest.raises(RadiographError, match=r"48 x 40 pixels of 1 colors, .* has 48 x 40 of 3"):
        read_radiograph(_pack(path, np.repeat(gray[..., None], 3, -1), Rows=48, Columns=40))


def test_packed_pixels_that_are_cut_off_are_called_truncated(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray
) -> None:
    path = _pack(make_dicom(tmp_path / "a.dcm", (picture >> 4).astype(np.uint8)), picture >> 4)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(RadiographError, match="the pixel data are truncated"):
        read_radiograph(path)


def test_colors_without_their_layout_and_unsupported_colors(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray
) -> None:
    colors = np.repeat((picture >> 4).astype(np.uint8)[..., None], 3, -1)
    path = make_dicom(tmp_path / "a.dcm", colors, SamplesPerPixel=3, PhotometricInterpretation="RGB")
    np.testing.assert_allclose(_pixels(path), colors[..., 0] / 255, atol=1e-5)
    path = make_dicom(tmp_path / "b.dcm", colors, SamplesPerPixel=3, PhotometricInterpretation="HSV")
    with pytest.raises(RadiographError, match="colors of this photometric interpretation"):
        read_radiograph(path)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_photometric_interpretation_in_small_letters(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray
) -> None:
    path = make_dicom(tmp_path / "a.dcm", picture, PhotometricInterpretation=" monochrome1")
    assert read_radiograph(path).info["inverted"]


def test_malformed_orientation_is_not_reported_as_absent(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray
) -> None:
    turned = [
        read_radiograph(make_dicom(tmp_path / "a.dcm", picture, PatientOrientation=text)).info["turned"]
        for text in ("L", "")
    ]
    assert turned == ["no: PatientOrientation malformed", "no: PatientOrientation absent"]


def test_floats_that_are_not_finite_are_black(tmp_path: Path, make_dicom: MakeDicom) -> None:
    chest = synthetic_radiograph((48, 40))[0]
    holed = chest.copy()
    holed[10, 10:20] = np.nan
    for name, values in (("a.dcm", chest), ("b.dcm", holed), ("c.dcm", np.full_like(chest, np.nan))):
        path = make_dicom(tmp_path / name, np.zeros((48, 40), np.uint16), BitsAllocated=32, WindowCenter=0.5)
        dataset = pydicom.dcmread(path)
        del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
        dataset.WindowWidth, dataset.VOILUTFunction = 1, "LINEAR_EXACT"
        dataset.FloatPixelData = values.astype("<f4").tobytes()
        dataset.save_as(path)
    np.testing.assert_allclose(_pixels(tmp_path / "a.dcm"), chest, atol=1e-5)
    np.testing.assert_allclose(_pixels(tmp_path / "b.dcm"), np.nan_to_num(holed), atol=1e-5)
    with pytest.raises(RadiographError, match="finite"):
        read_radiograph(tmp_path / "c.dcm")


def test_numbers_of_rays_become_attenuation_by_the_logarithm(tmp_path: Path, make_dicom: MakeDicom) -> None:
    chest, _ = synthetic_radiograph(64)
    path = make_dicom(
        tmp_path / "raw.dcm",
        np.round(4000 * np.exp(-2.5 * chest)).astype(np.uint16),  # even bone lets rays through
        PresentationIntentType="FOR PROCESSING",
        PixelIntensityRelationship="LIN",
        PixelIntensityRelationshipSign=1,
    )
    assert np.corrcoef(_pixels(path).ravel(), chest.ravel())[0, 1] > 0.995


def test_rays_counted_down_become_the_same_picture(tmp_path: Path, make_dicom: MakeDicom) -> None:
    chest, _ = synthetic_radiograph(64)
    rays = np.round(4000 * np.exp(-2.5 * chest)).astype(np.uint16)
    raw = {
        "PixelIntensityRelationship": "LIN",
        "PresentationIntentType": "FOR PROCESSING",
        "BitsStored": 12,
        "HighBit": 11,
    }
    up = make_dicom(tmp_path / "up.dcm", rays, PixelIntensityRelationshipSign=1, **raw)
    down = make_dicom(tmp_path / "down.dcm", 4095 - rays, PixelIntensityRelationshipSign=-1, **raw)
    np.testing.assert_allclose(_pixels(down), _pixels(up), atol=1e-5)


@pytest.mark.parametrize("name", ["BitsAllocated", "BitsStored", "PixelRepresentation", "SamplesPerPixel"])
def test_missing_elements_are_named(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray, name: str) -> None:
    path = make_dicom(tmp_path / "a.dcm", picture)
    dataset = pydicom.dcmread(path)
    delattr(dataset, name)
    dataset.save_as(path)
    with pytest.raises(RadiographError, match=f"lacks {name}"):
        read_radiograph(path)


def test_a_slope_that_is_not_a_number_is_refused(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    path = make_dicom(tmp_path / "a.dcm", picture)
    dataset = pydicom.dcmread(path)
    dataset.add_new("RescaleSlope", "LO", "abc")
    dataset.save_as(path)
    with pytest.raises(RadiographError, match="RescaleSlope in the DICOM header is not a number"):
        read_radiograph(path)


def test_info_holds_no_patient_data(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    secret = "SECRETNAME"
    names = [
        "PatientName", "OtherPatientNames", "InstitutionName", "ReferringPhysicianName", "StudyDescription",
        "SeriesDescription", "ProtocolName", "ViewPosition", "BodyPartExamined", "Modality",
        "PresentationIntentType", "PixelIntensityRelationship", "PresentationLUTShape", "VOILUTFunction",
        "ImageComments", "AccessionNumber", "StationName",
    ]  # fmt: skip
    path = make_dicom(
        tmp_path / "a.dcm",
        picture,
        **dict.fromkeys(names, secret),
        PatientOrientation=[secret, secret],
        PatientID=secret,
    )
    decoded = decode_dicom(path)
    assert decoded.patient == secret
    assert secret not in repr(decoded.info)


def test_unreadable_files_have_a_reason(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
    path = make_dicom(tmp_path / "a.dcm", picture)
    whole = path.read_bytes()
    (tmp_path / "short.dcm").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RadiographError, match=r"short.dcm as a radiograph: .*(truncated|damaged|no pixel data)"):
        read_radiograph(tmp_path / "short.dcm")
    dataset = pydicom.dcmread(path)
    del dataset.PixelData
    dataset.save_as(tmp_path / "none.dcm")
    with pytest.raises(RadiographError, match="no pixel data"):
        read_radiograph(tmp_path / "none.dcm")
    absurd = make_dicom(tmp_path / "absurd.dcm", picture, Rows=60000, Columns=60000)
    with pytest.raises(RadiographError, match="absurdly large: 60000 x 60000"):
        read_radiograph(absurd)
    lacking = make_dicom(tmp_path / "lacking.dcm", picture, Rows=None)
    with pytest.raises(RadiographError, match="lacks Rows"):
        read_radiograph(lacking)


@pytest.mark.real_data
def test_same_chest_in_two_encodings(real_data: Path) -> None:
    first = read_radiograph(real_data / "dicom" / "chest_cr_mono1_15bit_j2k_lossy.dcm")
    second = read_radiograph(real_data / "dicom" / "chest_cr_mono1_15bit_jpegls_near.dcm")
    assert np.abs(first.pixels - second.pixels).mean() < 0.01
    height, width = first.pixels.shape
    spine = first.pixels[height // 2 : height * 3 // 4, width * 12 // 25 : width * 13 // 25].mean()
    lung = first.pixels[height * 2 // 5 : height * 3 // 5, width // 5 : width * 3 // 10].mean()
    assert lung < spine


@pytest.mark.real_data
def test_same_hand_in_five_encodings(real_data: Path) -> None:
    kinds = ["j2k_lossless", "jpeg_lossless", "jpegls_lossless", "rle"]
    hands = [read_radiograph(real_data / "dicom" / f"cr_mono1_10bit_{kind}.dcm").pixels for kind in kinds]
    for hand in hands[1:]:
        np.testing.assert_array_equal(hand, hands[0])
    lossy = read_radiograph(real_data / "dicom" / "cr_mono1_10bit_jpeg_extended12.dcm").pixels
    assert np.abs(lossy - hands[0]).mean() < 0.01


@pytest.mark.parametrize("preamble", [True, False])
def test_deflated_data_sets_unpack_up_to_a_limit(
    tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray, preamble: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = _pixels(make_dicom(tmp_path / "plain.dcm", picture))
    path = make_dicom(tmp_path / "a.dcm", picture, DeflatedExplicitVRLittleEndian)
    content = path.read_bytes()
    if not preamble:
        path.write_bytes(content[132:])
    np.testing.assert_array_equal(_pixels(path), plain)
    # the same file, followed by an element of 300 MB
    inner = pydicom.dcmread(tmp_path / "plain.dcm")
    inner.PixelData = bytes(300 << 20)
    inner.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    inner.save_as(tmp_path / "bomb.dcm")
    assert (tmp_path / "bomb.dcm").stat().st_size < 1 << 20
    with pytest.raises(RadiographError, match="unpack to more than 268435456 bytes"):
        read_radiograph(tmp_path / "bomb.dcm")


@pytest.mark.parametrize("name", ["CR.1.2.276.0.7230010.3.1.4.1", "DX_0001.v2", "1.2.840.113619.2.1.7", "case#2"])
def test_names_and_links_do_not_matter(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray, name: str) -> None:
    plain = _pixels(make_dicom(tmp_path / "plain.dcm", picture))
    np.testing.assert_array_equal(_pixels(make_dicom(tmp_path / name, picture)), plain)
    (tmp_path / "link").symlink_to(tmp_path / name)
    np.testing.assert_array_equal(_pixels(tmp_path / "link"), plain)
