"""Seeded mutations of small files of every kind: each is read, or refused with a sentence that names the file."""

from __future__ import annotations

import gzip
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import itk
import nibabel
import numpy as np
import pytest
import tifffile
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from monai_anat.data import RadiographError, synthetic_radiograph
from monai_anat.data.reading.radiograph import decode

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")

SEEDS = 60
_HEAD = 700  # bytes in which most headers lie
_MOST_MEMORY = 3 << 30


def _dicom(path: Path, values: np.ndarray, syntax: str) -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.826.0.1.3680043.99.1"
    dataset.PatientOrientation, dataset.PixelSpacing = ["R", "F"], [0.2, 0.2]
    dataset.WindowCenter, dataset.WindowWidth = 2000, 4000
    dataset.Rows, dataset.Columns = values.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME1"
    dataset.PixelData = values.astype("<u2").tobytes()
    dataset["PixelData"].VR = "OW"
    if syntax == RLELossless:
        dataset.compress(RLELossless)
    dataset.save_as(path, enforce_file_format=True)


def _raster(path: Path, values: np.ndarray, **options: object) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(values).save(path, exif=exif, **options)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """One small file of every kind."""
    root = tmp_path_factory.mktemp("originals")
    gray = np.round(synthetic_radiograph((40, 32))[0] * 255).astype(np.uint8)
    wide = gray.astype(np.uint16) * 16
    affine = np.array([[0.2, 0, 0, 5], [0, 0.2, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    makers: dict[str, Callable[[Path], object]] = {
        "explicit.dcm": lambda path: _dicom(path, wide, ExplicitVRLittleEndian),
        "implicit.dcm": lambda path: _dicom(path, wide, ImplicitVRLittleEndian),
        "deflated.dcm": lambda path: _dicom(path, wide, DeflatedExplicitVRLittleEndian),
        "rle.dcm": lambda path: _dicom(path, wide, RLELossless),
        "gray.png": lambda path: _raster(path, gray),
        "wide.png": lambda path: _raster(path, wide),
        "gray.jpg": lambda path: _raster(path, gray),
        "lzw.tif": lambda path: _raster(path, wide, compression="tiff_lzw"),
        "rgb.tif": lambda path: tifffile.imwrite(path, np.stack([wide] * 3, axis=-1), photometric="rgb"),
        "a.bmp": lambda path: Image.fromarray(gray).save(path),
        "a.nii": lambda path: nibabel.save(nibabel.Nifti1Image(wide.T, affine), path),
        "a.nii.gz": lambda path: nibabel.save(nibabel.Nifti1Image(wide.T, affine), path),
        "a.mha": lambda path: itk.imwrite(itk.image_from_array(wide), str(path), compression=True),
        "a.nrrd": lambda path: itk.imwrite(itk.image_from_array(wide), str(path)),
    }
    found = {}
    for name, make in makers.items():
        make(root / name)
        found[name] = (root / name).read_bytes()
    return found


def _mutations(content: bytes, generator: np.random.Generator) -> Iterator[bytes]:
    """Flipped bits, exchanged and doubled pieces, extreme numbers, and files that end early."""
    for number in range(SEEDS):
        changed = bytearray(content)
        place = int(generator.integers(0, min(_HEAD, len(content)) if number % 2 else len(content)))
        kind = number % 6
        if kind == 0:
            changed = changed[:place]
        elif kind == 1:
            changed[place : place + 4] = generator.bytes(4)
        elif kind == 2:
            changed[place : place + 4] = [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f"][number % 3]
        elif kind == 3:
            changed[place] ^= 1 << int(generator.integers(8))
        elif kind == 4:
            del changed[place : place + int(generator.integers(1, 50))]
        else:
            changed[place:place] = changed[place : place + int(generator.integers(1, 200))]
        yield bytes(changed)


@pytest.mark.parametrize("label", [False, True], ids=["image", "mask"])
def test_every_mutation_is_read_or_refused_by_name(
    originals: dict[str, bytes], tmp_path: Path, label: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(15)
    started, read, refused = time.monotonic(), 0, 0
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # other tests of this process may have used more
    for name, content in originals.items():
        path = tmp_path / name
        path.write_bytes(content)
        decode(path, label=label)  # the original is read
        packed = name.endswith(".gz")
        for changed in _mutations(gzip.decompress(content) if packed and not label else content, generator):
            path.write_bytes(gzip.compress(changed) if packed and not label else changed)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    decoded = decode(path, label=label)
                except RadiographError as error:
                    refused += 1
                    assert str(path) in str(error) and error.reason
                    assert "RecursionError" not in error.reason and "MemoryError" not in error.reason
                    continue
            read += 1
            assert decoded.pixels.ndim == 2 and decoded.pixels.size > 0
            if not label:
                assert decoded.pixels.dtype == np.float32 and np.isfinite(decoded.pixels).all()
                assert decoded.pixels.min() >= 0 and decoded.pixels.max() <= 1
    assert read > 50 and refused > 50
    # a bound on hanging, not on speed
    assert time.monotonic() - started < 120
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) * 1024 < _MOST_MEMORY
    capfd.readouterr()


def test_the_mutations_are_the_same_in_every_run(originals: dict[str, bytes]) -> None:
    first, second = (list(_mutations(originals["gray.png"], np.random.default_rng(1))) for _ in range(2))
    assert first == second and len({*first}) > 0.8 * SEEDS
