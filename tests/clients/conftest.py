"""One radiograph that is not square in the file formats of hospitals, and clients in an interpreter of their own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import itk
import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from monai_anat.data import segmentation_datalist

#: scripts for another interpreter
collect_ignore_glob = ["*_client.py"]

ROOT = Path(__file__).parents[2]
HEIGHT, WIDTH = 236, 320
FORMATS = ("png", "monochrome1.dcm", "monochrome2.dcm", "nii.gz", "mha")


@pytest.fixture(scope="session")
def radiographs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same picture of 236 x 320 pixels in each format."""
    folder = tmp_path_factory.mktemp("radiographs")
    source = Image.open(segmentation_datalist("test")[2]["image"]).convert("L").resize((WIDTH, HEIGHT))
    pixels = np.asarray(source)
    paths = {name: folder / f"image.{name}" for name in FORMATS}
    source.save(paths["png"])
    for kind in ("MONOCHROME1", "MONOCHROME2"):
        write_dicom(paths[f"{kind.lower()}.dcm"], pixels if kind == "MONOCHROME2" else 255 - pixels, kind)
    nibabel.save(nibabel.Nifti1Image(pixels.T, np.diag([-0.2, -0.2, 1.0, 1.0])), paths["nii.gz"])
    itk.imwrite(itk.image_from_array(np.ascontiguousarray(pixels)), str(paths["mha"]))
    return paths


@pytest.fixture(scope="session")
def truth() -> NDArray[np.uint8]:
    """The reader's mask (236, 320): 1 right lung, 2 left lung."""
    mask = Image.open(segmentation_datalist("test")[2]["label"]).resize((WIDTH, HEIGHT), Image.Resampling.NEAREST)
    return np.asarray(mask)


def write_dicom(path: Path, pixels: NDArray[np.uint8], kind: str) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
    data.Modality, data.PhotometricInterpretation = "DX", kind
    # required in DX; MONAI Deploy inverts by it, and not by the photometric interpretation
    data.PresentationLUTShape = "INVERSE" if kind == "MONOCHROME1" else "IDENTITY"
    data.PixelSpacing, data.SeriesNumber, data.InstanceNumber = [0.2, 0.2], 1, 1
    data.ImageOrientationPatient, data.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]  # the SDK needs them
    data.Rows, data.Columns, data.SamplesPerPixel = *pixels.shape, 1
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation = 7, 0
    data.PixelData = np.ascontiguousarray(pixels).tobytes()
    data.save_as(path, enforce_file_format=True)


def lung_dice(mask: NDArray[Any], truth: NDArray[Any]) -> list[float]:
    """Dice of the right and of the left lung on one grid."""
    assert mask.shape == truth.shape
    return [
        2 * ((mask == number) & (truth == number)).sum() / ((mask == number).sum() + (truth == number).sum())
        for number in (1, 2)
    ]


@pytest.fixture
def dice() -> Callable[[NDArray[Any], NDArray[Any]], list[float]]:
    return lung_dice


@pytest.fixture
def run_client(tmp_path: Path) -> Callable[..., Any]:
    """Run a script of this folder with the interpreter that MONAI_ANAT_CLIENTS names, away from every bundle.

    The clients pin packages that this project does not share, so they live in an environment of their own.
    """
    python = os.environ.get("MONAI_ANAT_CLIENTS")
    if not python:
        pytest.skip("set MONAI_ANAT_CLIENTS to a Python interpreter with MONAI Label and the MONAI Deploy App SDK")

    def run(script: str, *arguments: str) -> Any:
        command = [python, str(Path(__file__).parent / script), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=900)
        assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
        return json.loads(done.stdout.strip().splitlines()[-1])

    return run
