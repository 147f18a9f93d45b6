from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from monai_anat.data import read_radiograph, synthetic_radiograph
from monai_anat.data.dicom import decode_dicom, is_raw, view_of
from monai_anat.data.radiograph import RadiographError

MakeDicom = Callable[..., Path]


@pytest.fixture
def picture() -> np.ndarray:
    """A 12-bit chest."""
    return np.round(synthetic_radiograph((48, 40))[0] * 4095).astype(np.uint16)


def _pixels(path: Path) -> np.ndarray:
    return read_radiograph(path).pixels


def test_every_way_to_say_bone_dark_gives_bone_bright(
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


def test_stray_bytes_of_a_cut_off_header_are_passed_over(
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


def test_colour_and_palette_become_luminance(tmp_path: Path, make_dicom: MakeDicom) -> None:
    colour = np.zeros((8, 8, 3), dtype=np.uint8)
    colour[..., 1] = 200
    path = make_dicom(
        tmp_path / "a.dcm", colour, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0
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


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "PA"}, "PA"),
        ({"ViewPosition": "AP SUPINE"}, "AP"),
        ({"ViewPosition": "LL"}, "LATERAL"),
        ({"ViewPosition": "RAO"}, "OBLIQUE"),
        ({"SeriesDescription": "Thorax lateral"}, "LATERAL"),
        ({"StudyDescription": "Chest PA and lateral"}, None),
        ({"ProtocolName": "CHEST PA"}, "PA"),
        ({"SeriesDescription": "left lateral decubitus"}, None),
        ({"PatientOrientation": ["P", "F"]}, "LATERAL"),
        ({"PatientOrientation": ["L", "F"]}, "FRONTAL"),
        ({}, None),
    ],
)
def test_view(elements: dict[str, object], view: str | None) -> None:
    dataset = Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    assert view_of(dataset) == view


def test_raw_is_said_by_the_intent() -> None:
    dataset = Dataset()
    dataset.PresentationIntentType = "FOR PRESENTATION"
    assert not is_raw(dataset)
    dataset.PresentationIntentType = "FOR PROCESSING"
    assert is_raw(dataset)


def test_info_holds_nothing_of_the_patient(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
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


def test_what_cannot_be_read_is_said_in_a_sentence(tmp_path: Path, make_dicom: MakeDicom, picture: np.ndarray) -> None:
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
