from __future__ import annotations

from collections.abc import Callable

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, JPEGBaseline8Bit, JPEGExtended12Bit

from monai_anat.data.reading.decoded import UnreadableError
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

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # some values violate their value representation


def test_the_presentation_intent_decides_what_is_raw() -> None:
    dataset = Dataset()
    dataset.PresentationIntentType = "FOR PRESENTATION"
    assert not is_raw(dataset)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1.1"  # digital X-ray, for processing
    assert not is_raw(dataset)
    del dataset.PresentationIntentType
    assert is_raw(dataset)
    dataset.PresentationIntentType = "FOR PROCESSING"
    assert is_raw(dataset)


@pytest.mark.parametrize(
    ("storage", "tag", "modality"),
    [
        ("1.2.840.10008.5.1.4.1.1.1.1", "DX", "DX"),
        ("1.2.840.10008.5.1.4.1.1.1", "CR", "CR"),
        ("1.2.840.10008.5.1.4.1.1.2", "", "CT"),
        ("1.2.840.10008.5.1.4.1.1.2.1", "OT", "CT"),
        ("1.2.840.10008.5.1.4.1.1.4", "", "MR"),
        ("1.2.840.10008.5.1.4.1.1.1.2", "DX", "MG"),
        ("1.2.840.10008.5.1.4.1.1.7", "OT", "OT"),
        ("1.2.840.10008.5.1.4.1.1.7", "Doe^Jane", None),
        ("", "", None),
    ],
)
def test_modality_by_the_storage_class_and_the_tag(
    make_header: Callable[..., Dataset], storage: str, tag: str, modality: str | None
) -> None:
    assert modality_of(make_header(SOPClassUID=storage, Modality=tag)) == modality


def test_body_part_in_two_words(make_header: Callable[..., Dataset]) -> None:
    parts = ["CHEST", "Thorax", "RIBS", "KNEE", "Jane Doe", ""]
    assert [body_part_of(make_header(BodyPartExamined=part)) for part in parts] == [*["chest"] * 3, "other", None, None]


@pytest.mark.parametrize(
    "part", ["SHOULDER", "CSPINE", "T-SPINE", "NECK", "CLAVICLE", "HUMERUS", "UP_EXM", "Knie", "RODILLA"]
)
def test_a_part_beside_the_chest_is_another(make_header: Callable[..., Dataset], part: str) -> None:
    assert body_part_of(make_header(BodyPartExamined=part)) == "other"


def test_body_part_of_other_languages_and_of_the_region(make_header: Callable[..., Dataset]) -> None:
    assert [body_part_of(make_header(BodyPartExamined=part)) for part in ("TORAX", "Torace", "胸部")] == ["chest"] * 3
    region = make_header(AnatomicRegionSequence=Sequence([make_header(CodeMeaning="Knee")]))
    assert body_part_of(region) == "other"
    region.BodyPartExamined = "CHEST"
    assert body_part_of(region) == "chest"


@pytest.mark.parametrize(
    ("elements", "spacing", "aspect"),
    [
        ({"PixelSpacing": [0.15, 0.15], "ImagerPixelSpacing": [0.2, 0.2]}, (0.15, 0.15), 1.0),
        ({"NominalScannedPixelSpacing": [0.2, 0.1]}, (0.2, 0.1), 2.0),
        ({"PixelSpacing": [1e-4, 1e3], "ImagerPixelSpacing": [0.2, 0.2]}, (0.2, 0.2), 1.0),
        ({"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 1.25}, (0.16, 0.16), 1.0),
        ({"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 0}, (0.2, 0.2), 1.0),
        ({"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 100}, (0.2, 0.2), 1.0),
        ({"PixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 1.25}, (0.2, 0.2), 1.0),
        ({"PixelSpacing": [-1, 1]}, None, 1.0),
        ({"PixelSpacing": 0.2}, None, 1.0),
        ({"PixelAspectRatio": [1, 2]}, None, 0.5),
        ({"PixelAspectRatio": [100000, 1]}, None, 1.0),
        ({"PixelAspectRatio": [0, 1]}, None, 1.0),
    ],
)
def test_spacing_that_no_detector_has_counts_as_absent(
    make_header: Callable[..., Dataset], elements: dict[str, object], spacing: tuple[float, float] | None, aspect: float
) -> None:
    found, words, form = spacing_of(make_header(**elements))
    assert found == spacing and form == pytest.approx(aspect)
    assert ("unknown" in words) == (spacing is None)


def test_number_of_the_header(make_header: Callable[..., Dataset]) -> None:
    assert header_number(make_header(RescaleSlope="2.5"), "RescaleSlope", 1) == 2.5
    assert header_number(make_header(RescaleSlope=None), "RescaleSlope", 1) == 1
    for text in ("abc", "nan", "inf"):
        dataset = Dataset()
        dataset.add_new("RescaleSlope", "LO", text)
        with pytest.raises(UnreadableError, match="RescaleSlope in the DICOM header is not a number"):
            header_number(dataset, "RescaleSlope", 1)


def test_texts_of_the_header() -> None:
    assert header_texts(None) == header_texts("") == []
    assert header_texts(["l ", "f"]) == header_texts("l\\f") == header_texts("L/F") == ["L", "F"]


def test_private_transfer_syntax_is_not_named() -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    assert transfer_syntax_of(dataset) == "unknown"
    for uid, words in (("1.2.840.10008.1.2.1", "Explicit VR Little Endian"), ("1.3.6.1.4.1.9.1", "unknown")):
        dataset.file_meta.TransferSyntaxUID = uid
        assert transfer_syntax_of(dataset) == words


def test_frame_groups_override_shared_groups(make_header: Callable[..., Dataset]) -> None:
    def group(center: int) -> Dataset:
        return make_header(FrameVOILUTSequence=Sequence([make_header(WindowCenter=center, WindowWidth=10)]))

    dataset = make_header(
        SharedFunctionalGroupsSequence=Sequence([group(1)]),
        PerFrameFunctionalGroupsSequence=Sequence([group(2), group(3)]),
        WindowCenter=4,
    )
    lift_frame_groups(dataset, 1)
    assert dataset.WindowCenter == 3 and dataset.WindowWidth == 10
    plain = make_header(WindowCenter=4)
    lift_frame_groups(plain, 0)
    assert plain.WindowCenter == 4


def test_lossy_compression_is_known_by_the_syntax_or_the_element(make_header: Callable[..., Dataset]) -> None:
    assert not is_lossy(make_header()) and is_lossy(make_header(LossyImageCompression="01"))
    header = make_header(LossyImageCompression="00")
    header.file_meta = FileMetaDataset()
    for syntax, lossy in ((JPEGBaseline8Bit, True), (JPEGExtended12Bit, True), (ExplicitVRLittleEndian, False)):
        header.file_meta.TransferSyntaxUID = syntax
        assert is_lossy(header) is lossy
