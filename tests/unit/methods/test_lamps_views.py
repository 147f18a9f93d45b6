"""Views of Lamps: inputs of each objective, cut from one deformed image."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_anat.methods import RandLampsViewsd
from monai_anat.methods.lamps_views import LampsDraw, source_region
from monai_anat.transforms import RandAppearance, RandElastic, split_cells
from monai_anat.transforms.elastic import ElasticDraw, displacement_field, pixel_positions, sample_at
from monai_anat.transforms.grid_crops import GridCropsDraw
from monai_anat.transforms.windows import split_quadrants

SAME = RandAppearance(jitter_prob=0.0, blur_prob=0.0)
STILL = RandElastic(prob=0.0)
KEYS = {
    0: {"augmented_1", "augmented_2", "correspondence"},
    1: {"windows"},
    2: {"order"},
    3: {"augmented_1", "augmented_2", "quadrants"},
}


def views_of(**options: Any) -> RandLampsViewsd:
    return RandLampsViewsd(**{"grid_size": 4, "cell_size": 4, "margin": 2, "kept": 3, **options})


def image_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_each_phase_makes_what_it_needs_and_no_phase_makes_everything() -> None:
    views, image = views_of(), image_of(1, 30, 30)
    for phase, keys in KEYS.items():
        assert set(views({"image": image, "phase": phase})) == {"view_1", "view_2"} | keys
    assert set(views({"image": image})) == {"view_1", "view_2"}.union(*KEYS.values())
    fewer = views_of(objectives=("order", "hierarchy"))
    assert set(fewer({"image": image, "phase": 1})) == {"view_1", "view_2"} | KEYS[3]
    with pytest.raises(ValueError, match=r"one of the objectives \['order', 'hierarchy'\], got 2; .*TurnPhase\(2\)"):
        fewer({"image": image, "phase": 2})


@pytest.mark.parametrize("shape", [(1, 31, 29), (2, 28, 28), (1, 29, 30, 31)])
def test_without_resampling_the_views_are_cut_from_the_image(shape: tuple[int, ...]) -> None:
    views, image = views_of(area=None, elastic=STILL, appearance=SAME), image_of(*shape)
    clean, dims, places = (image - 0.5056) / 0.252, len(shape) - 1, set()
    for seed in range(15):
        sample = views.set_random_state(seed)({"image": image})
        crops = views.drawn.crops
        places.add((crops.offset_1, crops.offset_2))
        for number, offset in ((1, crops.offset_1), (2, crops.offset_2)):
            first = [o + 4 * f for o, f in zip(crops.origin, offset, strict=True)]
            expected = clean[(slice(None), *(slice(f, f + 16) for f in first))]
            torch.testing.assert_close(sample[f"view_{number}"], expected)
            assert torch.equal(sample[f"augmented_{number}"], sample[f"view_{number}"])
            quarter = sample["quadrants"].chunk(2)[number - 1]
            torch.testing.assert_close(quarter, split_quadrants(expected, dims))
        cells_1, cells_2 = (split_cells(sample[name], 4, dims) for name in ("view_1", "view_2"))
        matched = sample["correspondence"] >= 0
        assert torch.equal(cells_1[matched], cells_2[sample["correspondence"][matched]])
        assert sorted(sample["order"].tolist()) == list(range(4**dims))
        assert sample["windows"].shape == (2, dims)
    assert len(places) > 10


def test_part_and_whole_move_together_under_the_deformation() -> None:
    """Matching cells, views and quadrants of a strongly deformed image are still the same pixels."""
    elastic = RandElastic(prob=1.0, magnitude=20.0, smoothness=2.0, affine=3.0)
    views, image = views_of(elastic=elastic, appearance=SAME), image_of(1, 40, 40)
    for seed in range(10):
        sample = views.set_random_state(seed)({"image": image})
        cells_1, cells_2 = (split_cells(sample[name], 4, 2) for name in ("view_1", "view_2"))
        matched = sample["correspondence"] >= 0
        assert torch.equal(cells_1[matched], cells_2[sample["correspondence"][matched]])
        for number in (1, 2):
            quarter = sample["quadrants"].chunk(2)[number - 1]
            assert torch.equal(quarter, split_quadrants(sample[f"augmented_{number}"], 2))
            assert torch.equal(sample[f"augmented_{number}"], sample[f"view_{number}"])
    still = views_of(elastic=STILL, appearance=SAME).set_random_state(0)({"image": image})
    assert not torch.equal(still["view_1"], views.set_random_state(0)({"image": image})["view_1"])


def test_every_augmented_view_and_quadrant_changes_by_itself() -> None:
    always = RandAppearance(brightness=0.5, contrast=0.0, jitter_prob=1.0, blur_prob=0.0)
    views = views_of(area=None, elastic=STILL, appearance=always, mean=0.0, std=1.0)
    views.set_random_state(seed=0)  # of ten levels drawn at will, two agree to four digits once in a hundred times
    sample = views({"image": torch.full((1, 30, 30), 0.4)})
    levels = [float(part.mean()) for part in (sample["augmented_1"], sample["augmented_2"], *sample["quadrants"])]
    assert len({round(level, 4) for level in levels}) == 10
    assert float(sample["view_1"].mean()) == pytest.approx(0.4)


def test_the_box_is_what_is_seen() -> None:
    """A ramp of positions shows that the canvas samples the box from edge to edge, at pixel centers."""
    rows = torch.arange(40.0).reshape(1, 40, 1).expand(1, 40, 40) / 40
    crops = GridCropsDraw((2, 1), (0, 0), (1, 1))
    draw = LampsDraw((28, 28), np.array([[4, 8], [14, 28]]), None, crops)
    region = source_region(rows, draw, (24, 24))
    expected = 4 + (torch.arange(24) + 2 + 0.5) / 2 - 0.5  # 14 rows of the image on 28 of the canvas
    torch.testing.assert_close(region[0, :, 3] * 40, expected)
    field = ElasticDraw(np.array([[1.0, 0.0]] * 3), 3.0, 2.0, seed=0)
    moved = source_region(rows, LampsDraw((40, 40), None, field, crops), (24, 24))
    places = torch.tensor([2.0, 1.0]).reshape(2, 1, 1) + pixel_positions((24, 24)) + displacement_field((24, 24), field)
    torch.testing.assert_close(moved, sample_at(rows, places))
    assert (moved - rows[:, 2:26, 1:25]).abs().max() > 0.01
    plain = source_region(rows, LampsDraw((40, 40), None, None, crops), (24, 24))
    assert torch.equal(plain, rows[:, 2:26, 1:25])


def test_the_grid_of_the_paper() -> None:
    views, image = RandLampsViewsd(elastic=STILL), np.zeros((1, 660, 660), np.uint8)
    offsets, windows, sides = [], [], []
    for seed in range(60):
        views.set_random_state(seed)
        views.wanted = frozenset({"extrapolation"})
        views.randomize(image.shape[1:])
        offsets += [views.drawn.crops.offset_1, views.drawn.crops.offset_2, views.drawn.crops.origin]
        windows.append(views.drawn.windows)
        sides.append(views.drawn.box[1])
        assert views.drawn.canvas == (608, 608)
    assert (np.min(windows), np.max(windows)) == (0, 3)
    assert (np.min(offsets[0::3]), np.max(offsets[1::3]), np.max(offsets[2::3])) == (0, 4, 32)
    share = np.prod(sides, axis=1) / 660**2
    assert 0.84 < share.min() < share.max() <= 1
    sample = views.set_random_state(0)({"image": image, "phase": 3})
    assert sample["quadrants"].shape == (8, 1, 224, 224)


def test_codes_and_their_gray_levels_give_the_same_views() -> None:
    codes = np.random.RandomState(0).randint(0, 256, (1, 40, 40)).astype(np.uint8)
    for options in ({}, {"area": None, "elastic": STILL}):
        views = views_of(**options)
        for seed in range(4):
            first, second = (
                views.set_random_state(seed)({"image": image}) for image in (codes, (codes / 255).astype(np.float32))
            )
            for name in first:
                torch.testing.assert_close(first[name], second[name], rtol=0, atol=1e-5)


def test_same_seed_same_views_also_after_pickling() -> None:
    views = views_of()
    copy = pickle.loads(pickle.dumps(views))
    for seed in range(4):
        first, second, third = (v.set_random_state(seed)({"image": image_of(1, 30, 30)}) for v in (views, views, copy))
        assert all(torch.equal(first[name], second[name]) for name in first)
        assert all(torch.equal(first[name], third[name]) for name in first)


def test_views_refuse_what_cannot_be() -> None:
    with pytest.raises(ValueError, match=r"at least \(24, 24\).*got \(23, 30\); grow it first"):
        views_of()({"image": image_of(1, 23, 30)})
    with pytest.raises(ValueError, match=r"margin must be .* less than grid_size.* margin=4 and grid_size=4"):
        views_of(margin=4)
    with pytest.raises(ValueError, match=r"area must be two shares of the image in \(0, 1\]"):
        views_of(area=(0.5, 2.0))
    with pytest.raises(ValueError, match=r"even number of cells per side, got a grid of 5"):
        views_of(grid_size=5)
    with pytest.raises(ValueError, match=r"kept must be .* got kept=4 and a grid of 4"):
        views_of(kept=4)
    with pytest.raises(ValueError, match=r"objectives must be a list of one or more of .*'order'.*got \('ordre',\)"):
        views_of(objectives=("ordre",))
    assert views_of(grid_size=5, kept=5, objectives=("consistency", "order")).grid_size == 5
