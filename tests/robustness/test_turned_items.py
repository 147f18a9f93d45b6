"""Images that their header turns, with masks and landmarks on the stored pixels, in evaluation and inference."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import torch
from PIL import Image

from monai_anat.data import segmentation_datalist
from monai_anat.data.reading.orientation import Turn, undo_turn
from monai_anat.data.reading.raster import EXIF_TURNS
from monai_anat.evaluation.cases import load_cases
from monai_anat.evaluation.landmark_lists import load_landmarks

MakeItem = Callable[[Turn, int], dict[str, Any]]


@pytest.fixture
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """A radiograph that is higher than wide, and its lungs."""
    item = segmentation_datalist("test")[0]
    with Image.open(item["image"]) as image, Image.open(item["label"]) as label:
        size = (120, 150)
        return np.asarray(image.resize(size)), np.asarray(label.resize(size, Image.Resampling.NEAREST))


@pytest.fixture
def make_item(tmp_path: Path, drawn: tuple[np.ndarray, np.ndarray]) -> MakeItem:
    """Write the radiograph so that an EXIF tag makes it upright, with its mask on the stored pixels."""

    def make(turn: Turn, code: int) -> dict[str, Any]:
        exif = Image.Exif()
        exif[274] = code
        Image.fromarray(undo_turn(drawn[0], turn)).save(tmp_path / f"{code}.png", exif=exif)
        Image.fromarray(undo_turn(drawn[1], turn)).save(tmp_path / f"{code}_mask.png")
        paths = []
        for number in (1, 2):
            paths.append(str(tmp_path / f"{code}_{number}.png"))
            Image.fromarray((undo_turn(drawn[1], turn) == number).astype(np.uint8) * 255).save(paths[-1])
        return {"image": str(tmp_path / f"{code}.png"), "label": str(tmp_path / f"{code}_mask.png"), "parts": paths}

    return make


@pytest.mark.parametrize(("code", "turn"), sorted(EXIF_TURNS.items()))
def test_evaluation_sees_image_mask_and_landmarks_together(make_item: MakeItem, code: int, turn: Turn) -> None:
    plain, turned = make_item(Turn(), 1), make_item(turn, code)
    expected, cases = load_cases([plain], 64), load_cases([turned], 64)
    assert torch.equal(cases.labels, expected.labels)
    torch.testing.assert_close(cases.images, expected.images)
    assert torch.equal(load_cases([{**turned, "label": turned["parts"]}], 64).labels, expected.labels)
    of_masks = load_landmarks([plain])
    np.testing.assert_array_equal(load_landmarks([turned]).points, of_masks.points)
    assert load_landmarks([turned]).shapes.tolist() == [[150, 120]]
    # landmarks that a person wrote on the stored pixels
    shape = turn.shape((150, 120))
    rows, columns = np.indices(shape)
    stored = {}
    for name, (row, column) in zip(of_masks.names, of_masks.points[0], strict=True):
        mark = np.zeros((150, 120), bool)
        mark[int(row), int(column)] = True
        place = undo_turn(mark, turn)
        stored[name] = [int(rows[place][0]), int(columns[place][0])]
    written = load_landmarks([{"image": turned["image"], "landmarks": stored}])
    np.testing.assert_array_equal(written.points, np.trunc(of_masks.points))


def test_a_dicom_file_that_is_mirrored_by_its_header(tmp_path: Path, drawn: tuple[np.ndarray, np.ndarray]) -> None:
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.826.0.1.3680043.99.1"
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 150, 120, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PhotometricInterpretation, dataset.PatientOrientation = "MONOCHROME2", ["R", "F"]
    dataset.PixelData = np.ascontiguousarray(drawn[0][:, ::-1]).tobytes()
    dataset["PixelData"].VR = "OB"
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    Image.fromarray(drawn[1][:, ::-1]).save(tmp_path / "a_mask.png")
    Image.fromarray(drawn[0]).save(tmp_path / "b.png")
    Image.fromarray(drawn[1]).save(tmp_path / "b_mask.png")
    mirrored, plain = (
        load_cases([{"image": str(tmp_path / image), "label": str(tmp_path / mask)}], 64)
        for image, mask in (("a.dcm", "a_mask.png"), ("b.png", "b_mask.png"))
    )
    assert torch.equal(mirrored.labels, plain.labels)
    torch.testing.assert_close(mirrored.images, plain.images)
