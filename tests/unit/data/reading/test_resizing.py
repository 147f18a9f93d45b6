from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_anat.data import radiograph_preprocessing
from monai_anat.data.reading.orientation import picture_affine
from monai_anat.data.reading.resizing import ResizeRadiograph, ResizeRadiographd

pytestmark = [
    pytest.mark.filterwarnings("ignore:builtin type .*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:PydicomReader:UserWarning"),
]


def test_short_side_gets_the_size_and_proportions_stay() -> None:
    resize = ResizeRadiograph(32)
    assert resize(torch.rand(1, 64, 96)).shape == (1, 32, 48)
    assert resize(torch.rand(1, 96, 64)).shape == (1, 48, 32)
    assert ResizeRadiograph(32, square=True)(torch.rand(1, 96, 64)).shape == (1, 32, 32)
    tall_pixels = MetaTensor(torch.rand(1, 32, 64), affine=torch.as_tensor(picture_affine((0.4, 0.2))))
    assert resize(tall_pixels).shape == (1, 32, 32)


def test_shrinking_averages_areas() -> None:
    image = torch.rand(1, 64, 64)
    expected = image.reshape(1, 32, 2, 32, 2).mean((2, 4))
    torch.testing.assert_close(ResizeRadiograph(32)(image).as_tensor(), expected)


def test_enlarging_is_smooth_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    grow = ResizeRadiographd("image", 16)
    with caplog.at_level(logging.WARNING):
        out = grow({"image": torch.rand(1, 8, 12)})["image"]
        grow({"image": torch.rand(1, 9, 9)})
    assert out.shape == (1, 16, 24)
    assert [record.message for record in caplog.records if "enlarged" in record.message] == [
        "images smaller than size=16 are enlarged (first seen: 8 x 12 pixels); enlarging adds no detail, so a "
        "smaller size trains as well and faster. This is logged once."
    ]


def test_masks_follow_the_image_and_return() -> None:
    resize = ResizeRadiographd(["image", "label"], 16, mode=("area", "nearest"), allow_missing_keys=True)
    label = MetaTensor((torch.rand(1, 32, 48) > 0.5).float() * 2)
    out = resize({"image": MetaTensor(torch.rand(1, 32, 48)), "label": label})
    assert out["label"].shape == (1, 16, 24) and set(out["label"].unique().tolist()) <= {0.0, 2.0}
    assert resize.inverse(out)["label"].shape == (1, 32, 48)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("shape", [(1, 3000), (3000, 1), (20, 90)])
def test_strips_are_refused_before_memory_is_allocated(tmp_path: Path, square: bool, shape: tuple[int, int]) -> None:
    Image.fromarray(np.zeros(shape, np.uint8)).save(tmp_path / "strip.png")
    with pytest.raises(RuntimeError) as caught:
        radiograph_preprocessing(448, square=square)({"image": str(tmp_path / "strip.png")})
    assert f"strip.png is a strip: {shape[0]} x {shape[1]} pixels" in str(caught.value.__cause__)
    with pytest.raises(ValueError, match="an image is a strip"):
        ResizeRadiograph(448, square)(torch.zeros(1, *shape))


def test_pixels_that_are_not_square_count_with_their_size() -> None:
    flat = MetaTensor(torch.rand(1, 20, 90), affine=torch.as_tensor(picture_affine((0.6, 0.2))))
    assert ResizeRadiograph(32)(flat).shape == (1, 32, 48)
