"""Fixtures that write DICOM files and folders of radiographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from monai_anat.data import pretraining_datalist

CR = "1.2.840.10008.5.1.4.1.1.1"
MakeDicom = Callable[..., Path]


@pytest.fixture
def make_dicom() -> MakeDicom:
    """Write ``values`` (H, W) as a DICOM file; keyword arguments become elements, None removes one."""

    def make(path: Path, values: np.ndarray, syntax: str = ExplicitVRLittleEndian, **elements: Any) -> Path:
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = CR
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.826.0.1.3680043.99.4711"
        dataset.Modality, dataset.PatientID, dataset.PatientName = "CR", "4711", "Doe^Jane"
        dataset.Rows, dataset.Columns = (
            values.shape[-2:] if values.ndim != 3 or values.shape[-1] > 4 else values.shape[:2]
        )
        bits = values.dtype.itemsize * 8
        dataset.BitsAllocated = dataset.BitsStored = bits
        dataset.HighBit = bits - 1
        dataset.PixelRepresentation = int(values.dtype.kind == "i")
        dataset.SamplesPerPixel = 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        for name, value in elements.items():
            if value is None:
                if name in dataset:
                    delattr(dataset, name)
            else:
                setattr(dataset, name, value)
        big = syntax == pydicom.uid.ExplicitVRBigEndian
        dataset.PixelData = values.astype(values.dtype.newbyteorder(">" if big else "<")).tobytes()
        if values.nbytes % 2:
            dataset.PixelData += b"\0"
        dataset["PixelData"].VR = "OW" if bits > 8 else "OB"
        dataset.save_as(path, enforce_file_format=True)
        return path

    return make


@pytest.fixture
def make_header() -> Callable[..., Dataset]:
    """Make a DICOM header from keyword arguments."""

    def make(**elements: Any) -> Dataset:
        dataset = Dataset()
        for name, value in elements.items():
            setattr(dataset, name, value)
        return dataset

    return make


@pytest.fixture
def write_radiographs(tmp_path: Path) -> Callable[..., Path]:
    """Write twelve of the sample radiographs, two for each of six patients, with the given file suffixes."""

    def write(*endings: str) -> Path:
        folder = tmp_path / "in"
        folder.mkdir()
        for number, item in enumerate(pretraining_datalist()[:12]):
            with Image.open(item["image"]) as image:
                image.resize((90, 80)).save(folder / f"p{number // 2}_{number}.{endings[number % len(endings)]}")
        return folder

    return write
