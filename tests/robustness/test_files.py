"""Damaged, unusual and foreign files, and patient data in every place that can hold them."""

from __future__ import annotations

import logging
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from torch import nn

from monai_anat.data import (
    ShardDataset,
    load_datalist,
    prepare_radiographs,
    pretraining_datalist,
    radiograph_preprocessing,
    write_embeddings,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")

SECRETS = ["Mustermann", "4711-XYZ", "19440229", "1.2.826.0.1.99999.77", "Sanatorium"]
PERSONAL = {
    "PatientName": "Mustermann^Erika",
    "PatientID": "4711-XYZ",
    "OtherPatientIDs": "4711-XYZ",
    "PatientBirthDate": "19440229",
    "StudyDate": "19440229",
    "StudyInstanceUID": "1.2.826.0.1.99999.77.1",
    "SeriesInstanceUID": "1.2.826.0.1.99999.77.2",
    "FrameOfReferenceUID": "1.2.826.0.1.99999.77.3",
    "AccessionNumber": "4711-XYZ",
    "InstitutionName": "Sanatorium",
    "InstitutionAddress": "Sanatorium",
    "ReferringPhysicianName": "Mustermann^Max",
    "StudyDescription": "Mustermann chest pa",
    "SeriesDescription": "Mustermann chest pa",
    "ProtocolName": "Mustermann",
    "StationName": "Sanatorium",
    "ImageComments": "Mustermann",
    "Modality": "Mustermann",
    "BodyPartExamined": "MUSTERMANN CHEST",
    "ViewPosition": "MUSTERMANN",
    "PresentationIntentType": "MUSTERMANN",
}


def _dicom(path: Path, values: np.ndarray, **elements: str) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.826.0.1.99999.77.4"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # some of the values are not what their tags allow
        for name, value in elements.items():
            setattr(dataset, name, value)
    dataset.Rows, dataset.Columns = values.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.PixelData = values.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def _pictures(count: int) -> list[np.ndarray]:
    found = []
    for item in pretraining_datalist()[:count]:
        with Image.open(item["image"]) as image:
            found.append(np.asarray(image.resize((96, 80))))
    return found


def _huge_png(path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    root = tmp_path / "disk"
    for number, values in enumerate(_pictures(5)):
        name = f"Mustermann_Erika_19440229/4711-XYZ_{number}.dcm"
        _dicom(root / name, values.astype(np.uint16) * 16, **PERSONAL)
    good = (root / "Mustermann_Erika_19440229" / "4711-XYZ_0.dcm").read_bytes()
    broken = root / "Mustermann_broken"
    broken.mkdir()
    (broken / "4711-XYZ_truncated.dcm").write_bytes(good[: len(good) // 2])
    (broken / "4711-XYZ_header_only.dcm").write_bytes(good[:200])
    (broken / "4711-XYZ_zero.dcm").write_bytes(b"")
    (broken / "4711-XYZ_noise.dcm").write_bytes(np.random.default_rng(0).bytes(5000))
    (broken / "4711-XYZ_text.dcm").write_bytes(b"Mustermann " * 50)
    (broken / "DICOMDIR").write_bytes(good)
    (broken / "4711-XYZ_odd_vr.dcm").write_bytes(good.replace(b"CS\x0c\x00MONOCHROME2 ", b"CS\x0c\x00MUSTERMANN  "))
    _huge_png(broken / "4711-XYZ_huge.png")
    (tmp_path / "outside.dcm").write_bytes(good)
    (broken / "4711-XYZ_link.dcm").symlink_to(tmp_path / "outside.dcm")
    (broken / "4711-XYZ_lost.dcm").symlink_to(tmp_path / "lost.dcm")
    report = pydicom.dcmread(root / "Mustermann_Erika_19440229" / "4711-XYZ_1.dcm")
    del report.PixelData
    report.save_as(broken / "4711-XYZ_report.dcm")
    with_id = pydicom.dcmread(root / "Mustermann_Erika_19440229" / "4711-XYZ_2.dcm")
    with_id.PixelData = np.frombuffer(with_id.PixelData, "<u2")[::-1].tobytes()
    del with_id.PatientID
    with_id.save_as(root / "no_id.dcm")
    return root


def _search(folder: Path) -> list[str]:
    found = []
    for path in folder.rglob("*"):
        text = (path.read_bytes() if path.is_file() else b"") + str(path.relative_to(folder)).encode()
        found += [f"{secret} in {path.name}" for secret in SECRETS if secret.lower().encode() in text.lower()]
    return found


def test_bad_files_are_set_aside_and_patient_data_stay_inside(
    hospital: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG, logger="monai_anat"):
        summary = prepare_radiographs(
            hospital,
            tmp_path / "out",
            size=64,
            key_file=tmp_path / "key",
            splits={"training": 0.5, "test": 0.5},
            view="frontal",
        )
    rejected = (tmp_path / "out" / "rejected.csv").read_text()
    for reason in (
        "truncated",
        "empty",
        "encrypted",
        "DICOMDIR",
        "absurdly large",
        "a link that leads nowhere",
        "no pixel data",
    ):
        assert reason in rejected, reason
    # a photometric interpretation of nonsense shows no picture that could be trusted, but five good ones are there
    assert summary.written >= 6 and summary.patients >= 2 and summary.without_patient >= 1
    assert _search(tmp_path / "out") == []
    logged = caplog.text + "".join(capfd.readouterr()) + summary.text()
    assert not any(secret.lower() in logged.lower() for secret in SECRETS)
    patients = {item["patient"] for split in ("training", "test") for item in load_datalist(tmp_path / "out", split)}
    assert all(len(patient) == 32 for patient in patients)


def test_embeddings_and_batches_hold_no_patient_data(hospital: Path, tmp_path: Path) -> None:
    prepare_radiographs(hospital, tmp_path / "out", size=64, key_file=tmp_path / "key")
    items = load_datalist(tmp_path / "out")
    encoder = nn.Conv2d(1, 4, 16, stride=16)
    write_embeddings(encoder, items, tmp_path / "embedded", transform=radiograph_preprocessing(64), patches=True)
    write_embeddings(
        encoder,
        [{"image": str(path)} for path in sorted((hospital / "Mustermann_Erika_19440229").iterdir())],
        tmp_path / "direct",
        transform=radiograph_preprocessing(64),
    )
    assert _search(tmp_path / "embedded") == [] and _search(tmp_path / "direct") == []
    dataset = ShardDataset(tmp_path / "out")
    torch.save([dataset[i] for i in range(len(dataset))], tmp_path / "out" / "batch.pt")
    assert _search(tmp_path / "out") == []


def test_a_folder_of_traps_is_processed_completely(tmp_path: Path) -> None:
    """Pipes without a writer, circular links, headers that name files elsewhere, and unusual names."""
    root = tmp_path / "disk"
    root.mkdir()
    picture = Image.fromarray(_pictures(1)[0])
    picture.save(root / "a.png")
    content = (root / "a.png").read_bytes()
    for name in ("line\nbreak.png", "Größe 胸部.png", "n" * 240 + ".png", os.fsdecode(b"M\xe4rz.png"), "scan.txt"):
        (root / name).write_bytes(content)
    os.mkfifo(root / "pipe.dcm")
    (root / "circle.dcm").symlink_to(root / "circle.dcm")
    (root / "up").symlink_to(root)
    (root / "dangling.dcm").symlink_to(root / "nowhere.dcm")
    header = "ObjectType = Image\nNDims = 2\nDimSize = 96 80\nElementType = MET_UCHAR\nElementDataFile = {}\n"
    (root / "outside.mhd").write_text(header.format(tmp_path / "outside.raw"))
    (root / "huge.mha").write_text(header.replace("96 80", "100000 100000").format("LOCAL"))
    (root / "notes.txt").write_text("nothing to see")
    for workers in (0, 2):
        out = tmp_path / f"out{workers}"
        summary = prepare_radiographs(root, out, size=64, key_file=tmp_path / "key", workers=workers)
        assert (summary.found, summary.written, summary.rejected) == (12, 1, 11)
        assert summary.reasons.pop("the same pixels as the file") == 5
        words = ["pipe", "in a circle", "searched already", "outside its folder", "absurdly"]
        assert sorted(word for reason in summary.reasons for word in words if word in reason) == sorted(words)
        assert sum(count for reason, count in summary.reasons.items() if "in a circle" in reason) == 2
        assert not any("decoding failed" in reason for reason in summary.reasons)
        assert any("passed over: 1 x .txt" in note for note in summary.notes)
        assert any("1 of 1 images have no view in their header" in note for note in summary.notes)
