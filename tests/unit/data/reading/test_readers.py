from __future__ import annotations

import logging
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.data import MetaTensor
from monai.transforms import LoadImage, LoadImaged
from PIL import Image

from monai_anat.data import RadiographReader, read_radiograph, synthetic_radiograph
from monai_anat.data.reading.orientation import Turn, turn_of
from monai_anat.data.reading.raster import EXIF_TURNS
from monai_anat.data.reading.readers import MARK


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pixels, labels = synthetic_radiograph((40, 32))
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(labels).save(tmp_path / "l.png")
    return tmp_path / "a.png"


def test_through_monai_as_by_itself(file: Path) -> None:
    item = LoadImaged("image", reader=RadiographReader, image_only=True)({"image": file})
    image = item["image"]
    assert isinstance(image, MetaTensor) and image.shape == (40, 32)
    np.testing.assert_array_equal(image.numpy(), read_radiograph(file).pixels)
    assert image.meta[MARK] == "linear from 0..255" and not image.meta["spacing_known"]


def test_several_files_are_channels_and_must_fit(file: Path) -> None:
    reader = RadiographReader()
    values, meta = reader.get_data(reader.read([file, file]))
    assert values.shape == (2, 40, 32) and meta["original_channel_dim"] == 0
    Image.fromarray(np.zeros((5, 5), np.uint8)).save(file.with_name("b.png"))
    with pytest.raises(ValueError, match="one size"):
        reader.get_data(reader.read([file, file.with_name("b.png")]))


def test_labels_are_read_as_stored(file: Path) -> None:
    reader = RadiographReader(label=True)
    values, meta = reader.get_data(reader.read(file.with_name("l.png"))[0])
    assert sorted(np.unique(values)) == [0, 1, 2] and meta[MARK] == "mask"
    assert reader.verify_suffix("anything")


def test_loaders_do_not_log_an_unused_decoder(caplog: pytest.LogCaptureFixture) -> None:
    LoadImage(reader=RadiographReader())
    assert "nvImageCodec" not in caplog.text
    logging.getLogger("monai.data.nvimgcodec_pydicom_plugin").warning("something else")
    assert "something else" in caplog.text


@pytest.mark.parametrize(("code", "turn"), sorted(EXIF_TURNS.items()))
def test_columns_order_is_the_stored_picture_of_monai(tmp_path: Path, code: int, turn: Turn) -> None:
    """A mask in this order is saved on the pixels of the file, whatever its header requests."""
    pixels = np.arange(20, dtype=np.uint8).reshape(5, 4)
    exif = Image.Exif()
    exif[274] = code
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    for order, expected in (("rows", pixels), ("columns", pixels.T)):
        reader = RadiographReader(label=True, order=order)
        values, meta = reader.get_data(reader.read(str(tmp_path / "a.png")))
        np.testing.assert_array_equal(values, expected)
        to_rows = Turn(transpose=order == "columns")
        assert to_rows.then(turn_of(meta["affine"])) == turn or code == 1
        assert meta["states_orientation"] == (code != 1) and meta["axis_order"] == order
    with pytest.raises(ValueError, match="order must be"):
        RadiographReader(order="diagonal")


def test_columns_order_of_a_volume_keeps_its_affine(tmp_path: Path) -> None:
    affine = np.array([[0.3, 0, 0, 5], [0, 0.2, 0, 7], [0, 0, 1, 0], [0, 0, 0, 1.0]])
    pixels = np.arange(20, dtype=np.uint8).reshape(5, 4)
    nibabel.save(nibabel.Nifti1Image(pixels, affine), tmp_path / "a.nii.gz")
    reader = RadiographReader(label=True, order="columns")
    values, meta = reader.get_data(reader.read(str(tmp_path / "a.nii.gz")))
    np.testing.assert_array_equal(values, pixels)
    np.testing.assert_allclose(meta["affine"], affine, rtol=1e-6)
