"""MONAI Deploy's real operators read the segmentation bundle; the SDK is installed apart, see ``run_client``."""

from __future__ import annotations

import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from monai.bundle import ckpt_export
from monai.transforms import LoadImage
from PIL import Image

BUNDLES = Path(__file__).parents[2] / "bundles"
BUNDLE = BUNDLES / "cxr_lung_segmentation"

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(params=["folder", "torchscript"])
def bundle(request, tmp_path) -> str:
    """The bundle as it ships, and exported to one file away from it."""
    if request.param == "folder":
        return str(BUNDLE)
    target = tmp_path / "exported" / "model.ts"
    target.parent.mkdir()
    ckpt_export(
        net_id="network_def",
        filepath=str(target),
        ckpt_file=str(BUNDLE / "models" / "model.pt"),
        meta_file=str(BUNDLE / "configs" / "metadata.json"),
        config_file=str(BUNDLE / "configs" / "inference.json"),
        bundle_root=str(BUNDLE),
        use_trace=True,
        input_shape=[1, 1, 224, 224],
    )
    return str(target)


@pytest.mark.parametrize("kind", ["monochrome1", "monochrome2"])
def test_dicom_of_an_image_that_is_not_square(run_client, radiographs, truth, dice, tmp_path, bundle, kind) -> None:
    (tmp_path / "dicom").mkdir()
    shutil.copy(radiographs[f"{kind}.dcm"], tmp_path / "dicom" / "image.dcm")
    answer = run_client("deploy_client.py", bundle, "pred", str(tmp_path / "mask.npy"), str(tmp_path / "dicom"))
    assert answer["shape"] == [1, *truth.shape]
    assert min(dice(np.load(tmp_path / "mask.npy")[0], truth)) > 0.85


@pytest.mark.parametrize("name", ["png", "nii.gz", "mha"])
def test_arrays_that_an_application_read_itself(run_client, radiographs, truth, dice, tmp_path, name) -> None:
    """Columns, rows, slice: the order of MONAI's readers, in which the SDK hands arrays on."""
    if name == "png":
        pixels = np.asarray(Image.open(radiographs[name])).T
    elif name == "mha":
        pixels = LoadImage("ITKReader", image_only=True)(radiographs[name]).numpy()
    else:
        pixels = np.asarray(nibabel.load(radiographs[name]).dataobj)
    np.save(tmp_path / "image.npy", pixels[..., None].astype(np.float32))
    run_client("deploy_client.py", str(BUNDLE), "pred", str(tmp_path / "mask.npy"), str(tmp_path / "image.npy"))
    assert min(dice(np.load(tmp_path / "mask.npy").squeeze(), truth)) > 0.85
