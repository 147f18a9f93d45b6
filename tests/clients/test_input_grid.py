"""Grid and affine of masks for any reader: the code paths of MONAI Label and MONAI Deploy without the clients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.data import MetaTensor
from monai.transforms import Compose, LoadImage, LoadImaged, SaveImage, SaveImaged

BUNDLE = Path(__file__).parents[2] / "bundles" / "cxr_lung_segmentation"
#: readers that a client may use instead of the bundle's, by format
READERS = {
    "png": ["PILReader", "ITKReader"],
    "monochrome1.dcm": ["ITKReader", "PydicomReader"],
    "monochrome2.dcm": ["ITKReader", "PydicomReader"],
    "nii.gz": ["NibabelReader", "ITKReader"],
    "mha": ["ITKReader"],
}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def predict():
    """The bundle's chain without saving, as both clients run it, for a path or for an image that is loaded."""
    workflow = ConfigWorkflow(str(BUNDLE / "configs" / "inference.json"), workflow_type="infer", logging_file=False)
    workflow.parser["bundle_root"] = str(BUNDLE)
    workflow.initialize()
    network = workflow.network_def.eval()
    network.load_state_dict(torch.load(BUNDLE / "models" / "model.pt", weights_only=True))
    chain = workflow.preprocessing
    after = Compose([step for step in workflow.postprocessing.transforms if not isinstance(step, SaveImaged)])
    bare = Compose([step for step in chain.transforms if not isinstance(step, LoadImaged)])

    def run(image: Any) -> dict[str, Any]:
        item = (bare if isinstance(image, torch.Tensor) else chain)({"image": image})
        with torch.no_grad():
            item["pred"] = workflow.inferer(item["image"][None], network)[0]
        return after(item)

    return run


@pytest.mark.parametrize("name", READERS)
def test_the_bundles_own_reader_uses_monais_order_of_axes(name, predict, radiographs, truth, dice) -> None:
    item = predict(str(radiographs[name]))
    assert item["pred"].shape == (1, *truth.T.shape)
    assert min(dice(item["pred"][0].numpy().T, truth)) > 0.85
    # MONAI Label resizes a mask that differs in shape from this entry
    assert tuple(item["image"].meta["spatial_shape"]) == truth.T.shape


@pytest.mark.parametrize(
    ("name", "reader"), [(name, reader) for name, readers in READERS.items() for reader in readers]
)
def test_masks_have_grid_and_affine_of_what_the_client_read(
    name, reader, predict, radiographs, truth, dice, tmp_path
) -> None:
    image = LoadImage(reader, image_only=True)(radiographs[name])
    mask = predict(image)["pred"]
    assert isinstance(mask, MetaTensor) and mask.shape[1:] == image.shape
    torch.testing.assert_close(mask.affine, image.affine, check_dtype=False)
    assert min(dice(mask[0].numpy().squeeze().T, truth)) > 0.85
    SaveImage(tmp_path, output_ext=".nii.gz", separate_folder=False, resample=False, print_log=False)(mask)
    [file] = tmp_path.glob("*.nii.gz")
    again = LoadImage("NibabelReader", image_only=True)(file)
    np.testing.assert_array_equal(again.numpy().squeeze(), mask[0].numpy().squeeze())


def test_arrays_without_metadata_count_as_columns_rows_slice(predict, radiographs, truth, dice) -> None:
    """MONAI Deploy hands on an array (W, H, 1) of an application that read the file itself."""
    image = LoadImage("PILReader", image_only=True)(radiographs["png"]).as_tensor()[..., None]
    mask = predict(MetaTensor(image))["pred"]
    assert mask.shape == (1, *image.shape)
    assert min(dice(mask[0].numpy().squeeze().T, truth)) > 0.85
