from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage
from PIL import Image

from monai_anat.data import OrientRadiographd, ResizeRadiographd, ScaleRadiographd, synthetic_radiograph
from monai_anat.data.reading.upright import OrientRadiograph

pytestmark = [
    pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:PydicomReader:UserWarning"),
]


def _image(shape: tuple[int, ...], affine: np.ndarray, name: str = "a.png") -> MetaTensor:
    values = torch.arange(float(np.prod(shape))).reshape(shape)
    return MetaTensor(values, affine=torch.as_tensor(affine), meta={"filename_or_obj": name})


@pytest.mark.parametrize(
    "affine",
    [np.eye(4), np.diag([-0.2, -0.3, 1, 1]), np.array([[-1.0, 0, 0, 3], [0, 1, 0, 4], [0, 0, 1, 0], [0, 0, 0, 1]])],
)
@pytest.mark.parametrize("shape", [(1, 4, 6), (1, 4, 6, 1), (1, 4, 1, 6)])
def test_turning_can_be_undone(affine: np.ndarray, shape: tuple[int, ...]) -> None:
    if shape == (1, 4, 1, 6):
        affine = affine[:, [0, 2, 1, 3]]
    image = _image(shape, affine)
    before = image.clone()
    for order in ("rows", "columns"):
        turn = OrientRadiograph(order)
        out = turn(image)
        assert out.shape == ((1, 6, 4) if order == "rows" else (1, 4, 6))
        back = turn.inverse(out)
        assert torch.equal(back.as_tensor(), image.as_tensor()) and torch.equal(back.affine, image.affine)
        assert back.applied_operations == []
    assert torch.equal(image, before) and image.applied_operations == []


def test_plain_tensors_and_unmarked_metatensors_are_rows_and_columns_already() -> None:
    plain = torch.arange(6.0).reshape(1, 2, 3)
    assert torch.equal(OrientRadiograph()(plain), plain)
    assert torch.equal(OrientRadiograph()(MetaTensor(plain)).as_tensor(), plain)
    npy = MetaTensor(plain, meta={"filename_or_obj": "a.npy"})
    assert torch.equal(OrientRadiograph()(npy).as_tensor(), plain)


def test_colors_become_gray_and_volumes_are_refused() -> None:
    color = torch.full((1, 4, 5, 3), 7.0)
    assert OrientRadiograph()(color).shape == (1, 4, 5)
    with pytest.raises(ValueError, match="a radiograph must have shape"):
        OrientRadiograph()(torch.zeros(1, 4, 5, 9))
    with pytest.raises(ValueError, match="order must be"):
        OrientRadiograph("diagonal")


@pytest.mark.parametrize("reader", ["PILReader", "ITKReader"])
def test_columns_order_is_what_monai_writes(tmp_path: Path, reader: str) -> None:
    pixels = np.round(synthetic_radiograph((24, 20))[0] * 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    loaded = LoadImage(reader, image_only=True)(tmp_path / "a.png")[None]
    upright = OrientRadiographd("image")({"image": loaded})["image"]
    np.testing.assert_array_equal(upright[0].numpy(), pixels)
    again = OrientRadiographd("image", order="columns")({"image": upright})["image"]
    np.testing.assert_array_equal(again[0].numpy(), pixels.T)
    assert torch.equal(again.affine, torch.diag(torch.tensor([-1.0, -1, 1, 1], dtype=torch.float64)))


def test_nifti_of_a_foreign_reader(tmp_path: Path) -> None:
    pixels = np.round(synthetic_radiograph((24, 20))[0] * 255).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(pixels.T[..., None], np.eye(4)), tmp_path / "a.nii.gz")
    loaded = LoadImage("NibabelReader", image_only=True)(tmp_path / "a.nii.gz")[None]
    np.testing.assert_array_equal(OrientRadiograph()(loaded)[0].numpy(), pixels)


@pytest.mark.parametrize(
    "transform", [OrientRadiographd("image"), ScaleRadiographd("image"), ResizeRadiographd("image", 8)]
)
def test_picklable_and_pure(transform: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    item = {"image": _image((1, 16, 20), np.eye(4))}
    before = item["image"].clone()
    first = transform(item)["image"]
    second = pickle.loads(pickle.dumps(transform))(item)["image"]
    assert torch.equal(first, second) and torch.equal(item["image"], before)
