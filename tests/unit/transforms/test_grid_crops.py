"""Overlapping crops of one grid."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_anat.transforms import OverlappingGridCrops, RandOverlappingGridCropsd, split_cells
from monai_anat.transforms.grid_crops import draw_grid_crops


def _assert_same_anatomy(view_1: torch.Tensor, view_2: torch.Tensor, match: torch.Tensor, cell: int) -> None:
    dims = view_1.ndim - 1
    first, second = split_cells(view_1, cell, dims), split_cells(view_2, cell, dims)
    shown = match >= 0
    assert shown.any()
    assert torch.equal(first[shown], second[match[shown]])


@pytest.mark.parametrize("shape", [(1, 61, 64), (2, 40, 41, 43)])
def test_matching_cells_are_pixel_identical_and_others_are_not(shape: tuple[int, ...]) -> None:
    crops = RandOverlappingGridCropsd("image", grid_size=4, cell_size=8, margin=1).set_random_state(0)
    image = torch.rand(shape)
    for _ in range(20):
        sample = crops({"image": image})
        _assert_same_anatomy(sample["view_1"], sample["view_2"], sample["correspondence"], 8)
        # what has no partner is shown nowhere in the other view
        lone = split_cells(sample["view_1"], 8, image.ndim - 1)[sample["correspondence"] < 0]
        other = split_cells(sample["view_2"], 8, image.ndim - 1)
        assert not any((cell == other).flatten(1).all(1).any() for cell in lone)


def test_the_peac_geometry_cuts_448_of_608_and_shares_at_least_51_percent() -> None:
    crops = RandOverlappingGridCropsd("image").set_random_state(0)
    image = np.random.RandomState(0).randint(0, 256, (1, 608, 608), dtype=np.uint8)
    for _ in range(30):
        sample = crops({"image": image})
        assert sample["view_1"].shape == sample["view_2"].shape == (1, 448, 448)
        assert sample["view_1"].dtype == np.uint8
        assert int((sample["correspondence"] >= 0).sum()) >= 100


def test_offsets_and_origins_are_uniform_over_all_that_fit() -> None:
    rng = np.random.RandomState(0)
    draws = [draw_grid_crops(rng, (10, 11), grid_size=2, cell_size=2, margin=2) for _ in range(6000)]
    origins = Counter(draw.origin for draw in draws)
    offsets = Counter((draw.offset_1, draw.offset_2) for draw in draws)
    assert len(origins) == 3 * 4 and min(origins.values()) > 0.8 * 6000 / 12
    assert len(offsets) == 3**4 and min(offsets.values()) > 0.5 * 6000 / 81


def test_without_jitter_the_grid_starts_at_multiples_of_the_cell() -> None:
    rng = np.random.RandomState(0)
    origins = {draw_grid_crops(rng, (608, 650), jitter=False).origin for _ in range(200)}
    assert origins == {(r, c) for r in (0, 32) for c in (0, 32, 64)}


def test_further_keys_are_cut_at_the_same_places_and_the_images_stay() -> None:
    image, mask = torch.rand(1, 20, 20), torch.rand(3, 20, 20)
    mask[0] = image[0]
    crops = RandOverlappingGridCropsd(["image", "label"], grid_size=2, cell_size=6, margin=1).set_random_state(0)
    sample = crops({"image": image, "label": mask})
    assert torch.equal(sample["view_1"][0], sample["label_view_1"][0])
    assert torch.equal(sample["view_2"][0], sample["label_view_2"][0])
    assert sample["image"] is image and sample["label_view_1"].shape == (3, 12, 12)


def test_the_affine_moves_with_the_crop() -> None:
    affine = torch.diag(torch.tensor([0.5, 2.0, 1.0, 1.0]))
    affine[:3, 3] = torch.tensor([10.0, -20.0, 0.0])
    image = MetaTensor(torch.rand(1, 12, 12), affine=affine)
    view_1, view_2, _ = OverlappingGridCrops(2, 4)(image, (0, 0), (1, 0), origin=(0, 3))
    for view, corner in [(view_1, (0, 3)), (view_2, (4, 3))]:
        assert isinstance(view, MetaTensor)
        expected = affine.double() @ torch.tensor([*corner, 0.0, 1.0], dtype=torch.float64)
        assert torch.allclose(view.affine[:, 3].double(), expected)
        assert torch.equal(view.as_tensor(), image.as_tensor()[:, corner[0] : corner[0] + 8, 3:11])


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor, MetaTensor])
def test_views_do_not_share_memory(kind: type) -> None:
    image = kind(np.ones((1, 8, 8), np.float32))
    view_1, view_2, _ = OverlappingGridCrops(2, 4)(image, (0, 0), (0, 0))
    view_1[:] = 0
    assert float(view_2.min()) == float(image.min()) == 1.0


def test_anisotropic_grids_in_3d() -> None:
    crops = RandOverlappingGridCropsd("image", grid_size=(3, 2, 1), cell_size=(4, 4, 2), margin=(1, 1, 0))
    sample = crops.set_random_state(1)({"image": np.zeros((1, 16, 12, 2))})
    assert sample["view_1"].shape == (1, 12, 8, 2) and sample["correspondence"].shape == (6,)


def test_errors_name_the_argument_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"at least \(576, 576\).*got \(448, 600\); grow it first"):
        RandOverlappingGridCropsd("image")({"image": np.zeros((1, 448, 600))})
    with pytest.raises(ValueError, match=r"keys must have one spatial shape.*'label' with \(9, 8\)"):
        RandOverlappingGridCropsd(["image", "label"], 1, 4, 1)(
            {"image": np.zeros((1, 8, 8)), "label": np.zeros((1, 9, 8))}
        )
    with pytest.raises(ValueError, match=r"must lie inside the image.*end at \(12, 8\) of \(8, 8\)"):
        OverlappingGridCrops(2, 4)(np.zeros((1, 8, 8)), (1, 0), (0, 0))
    with pytest.raises(ValueError, match=r"one value per axis, got \(0, 0\) for img of shape \(8, 8\)"):
        OverlappingGridCrops(2, 4)(np.zeros((8, 8)), (0, 0), (0, 0))


@pytest.mark.real_data
def test_matching_cells_of_real_radiographs_are_pixel_identical(real_data: Path) -> None:
    files = sorted(path for path in real_data.rglob("*") if path.suffix in (".png", ".jpg", ".jpeg"))[:20]
    assert files
    crops = RandOverlappingGridCropsd("image", grid_size=14, cell_size=8).set_random_state(0)
    for file in files:
        pixels = np.asarray(Image.open(file).convert("L").resize((160, 152)))
        sample = crops({"image": torch.from_numpy(pixels.copy())[None]})
        _assert_same_anatomy(sample["view_1"], sample["view_2"], sample["correspondence"], 8)
