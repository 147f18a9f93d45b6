from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose, Invertd, LoadImage, LoadImaged, SaveImaged
from PIL import Image

from monai_anat.data import (
    OrientRadiographd,
    radiograph_preprocessing,
    read_radiograph,
    segmentation_datalist,
    synthetic_radiograph,
)
from monai_anat.data.reading.preprocessing import FinishRadiographd

pytestmark = pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning")


@pytest.fixture
def item(tmp_path: Path) -> dict[str, str]:
    pixels, labels = synthetic_radiograph((96, 80))
    Image.fromarray(np.round(pixels * 255).astype(np.uint8)).save(tmp_path / "a.png")
    Image.fromarray(labels).save(tmp_path / "l.png")
    return {"image": str(tmp_path / "a.png"), "label": str(tmp_path / "l.png")}


def test_shapes_types_and_ranges(item: dict[str, str]) -> None:
    out = radiograph_preprocessing(64, label_key="label")(item)
    assert out["image"].shape == out["label"].shape == (1, 64, 64)
    assert type(out["image"]) is torch.Tensor and out["image"].dtype == torch.float32
    assert out["label"].unique().tolist() == [0, 1, 2]
    whole = radiograph_preprocessing(64, crop=False)({"image": item["image"]})["image"]
    assert whole.shape == (1, 77, 64)
    torch.testing.assert_close(whole[:, 6:70], out["image"])
    assert radiograph_preprocessing(48, square=True)({"image": item["image"]})["image"].shape == (1, 48, 48)
    small = radiograph_preprocessing(64, as_uint8=True)({"image": item["image"]})["image"]
    assert small.dtype == torch.uint8
    torch.testing.assert_close(small / 255, out["image"], atol=0.003, rtol=0)
    scaled = radiograph_preprocessing(64, mean=0.5056, std=0.252)({"image": item["image"]})["image"]
    torch.testing.assert_close(scaled, (out["image"] - 0.5056) / 0.252)
    tensor = radiograph_preprocessing(64, load=False)({"image": out["image"]})["image"]
    torch.testing.assert_close(tensor, out["image"])


def test_image_and_mask_stay_together(item: dict[str, str]) -> None:
    out = radiograph_preprocessing(64, label_key="label")(item)
    assert out["image"][out["label"] > 0].mean() < 0.5 < out["image"][:, 20:40, 30:34].mean()


@pytest.mark.parametrize("reader", ["PILReader", "ITKReader"])
def test_client_that_brings_its_own_reader_gets_the_same_picture(item: dict[str, str], reader: str) -> None:
    chain = radiograph_preprocessing(64)
    assert isinstance(chain.transforms[0], LoadImaged)
    without_loading = Compose([step for step in chain.transforms if "LoadImage" not in type(step).__name__])
    loaded = LoadImage(reader, image_only=True)(item["image"])
    assert loaded.shape == (80, 96)
    torch.testing.assert_close(without_loading({"image": loaded})["image"], chain(item)["image"])


@pytest.mark.parametrize("reader", [None, "PILReader", "ITKReader"])
def test_mask_returns_to_the_file_and_is_saved_the_right_way_up(
    item: dict[str, str], tmp_path: Path, reader: str | None
) -> None:
    chain = radiograph_preprocessing(80, metadata=True, crop=False)
    if reader is None:
        out = chain({"image": item["image"]})
    else:
        chain = Compose(chain.transforms[1:])
        out = chain({"image": LoadImage(reader, image_only=True)(item["image"])})
    out["pred"] = (out["image"] > 0.5).float()
    back = Invertd("pred", chain, orig_keys="image")(out)
    back = OrientRadiographd("pred", order="columns")(back)
    for ending in (".png", ".nii.gz"):
        options = {"separate_folder": False, "print_log": False, "resample": False}
        SaveImaged("pred", output_dir=tmp_path / "out", output_ext=ending, **options)(back)
    expected = np.asarray(Image.open(item["image"])) > 127.5
    png = np.asarray(Image.open(tmp_path / "out" / "a_trans.png")) > 0
    nifti = read_radiograph(tmp_path / "out" / "a_trans.nii.gz").pixels > 0.5
    for mask in (png, nifti):
        assert mask.shape == expected.shape and (mask == expected).mean() > 0.98
    stored = nibabel.load(tmp_path / "out" / "a_trans.nii.gz")
    assert stored.shape[:2] == (80, 96)


def test_mask_of_a_slab_is_saved_as_a_picture(item: dict[str, str], tmp_path: Path) -> None:
    gray = np.asarray(Image.open(item["image"]))
    nibabel.save(nibabel.Nifti1Image(gray.T[..., None], np.eye(4)), tmp_path / "slab.nii.gz")
    chain = Compose(radiograph_preprocessing(80, metadata=True, crop=False).transforms[1:])
    out = chain({"image": LoadImage("NibabelReader", image_only=True)(tmp_path / "slab.nii.gz")})
    out["pred"] = (out["image"] > 0.5).float()
    back = Invertd("pred", chain, orig_keys="image")(out)
    assert back["pred"].shape == (1, 80, 96, 1)
    back = OrientRadiographd("pred", order="columns")(back)
    options = {"separate_folder": False, "print_log": False, "resample": False}
    SaveImaged("pred", output_dir=tmp_path / "out", output_ext=".png", **options)(back)
    saved = np.asarray(Image.open(tmp_path / "out" / "slab_trans.png")) > 0
    assert saved.shape == gray.shape and (saved == (gray > 127.5)).mean() > 0.98


def test_png_dicom_and_nifti_of_one_image_are_equal(
    item: dict[str, str], tmp_path: Path, make_dicom: Callable[..., Path]
) -> None:
    gray = np.asarray(Image.open(item["image"]))
    make_dicom(tmp_path / "a.dcm", gray)
    make_dicom(tmp_path / "inverted.dcm", 255 - gray, PhotometricInterpretation="MONOCHROME1")
    nibabel.save(nibabel.Nifti1Image(gray.T, np.diag([-1, -1, 1, 1])), tmp_path / "a.nii.gz")
    chain = radiograph_preprocessing(64)
    expected = chain({"image": item["image"]})["image"]
    for name in ("a.dcm", "inverted.dcm", "a.nii.gz"):
        torch.testing.assert_close(chain({"image": tmp_path / name})["image"], expected, msg=name)


def test_a_file_that_does_not_decode_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(RuntimeError) as caught:
        radiograph_preprocessing(64)({"image": tmp_path / "bad.png"})
    assert "bad.png as a radiograph" in str(caught.value.__cause__)


def test_chain_is_picklable_and_metadata_stay_on_request(item: dict[str, str]) -> None:
    chain = pickle.loads(pickle.dumps(radiograph_preprocessing(64, metadata=True)))
    assert isinstance(chain(item)["image"], MetaTensor)
    finish = FinishRadiographd("image", None, as_uint8=False, metadata=False)
    assert type(finish({"image": MetaTensor(torch.zeros(1, 2, 2))})["image"]) is torch.Tensor


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 0}, "size must be"),
        ({"mean": 0.5}, "together"),
        ({"as_uint8": True, "mean": 0.5, "std": 0.2}, "excludes"),
    ],
)
def test_arguments_that_exclude_each_other(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        radiograph_preprocessing(**arguments)  # type: ignore[arg-type]


def test_shipped_sample_goes_through() -> None:
    chain = radiograph_preprocessing(64, label_key="label")
    batch = [chain(item) for item in segmentation_datalist("validation")]
    assert torch.stack([entry["image"] for entry in batch]).shape == (8, 1, 64, 64)
