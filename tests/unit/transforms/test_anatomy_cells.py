"""The anatomy decomposer: cells tile the image, level by level, and each is chosen as often."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_anat.transforms import RandAnatomyCell, RandAnatomyCelld
from monai_anat.transforms.anatomy_cells import anatomy_cell_boxes, bisection_grid
from monai_anat.transforms.geometry import box_slices


def test_each_level_bisects_the_last_and_cuts_columns_first() -> None:
    grids = [bisection_grid(level) for level in range(7)]
    assert grids == [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8), (8, 8)]
    volumes = [bisection_grid(level, spatial_dims=3) for level in range(7)]
    assert volumes == [(1, 1, 1), (1, 2, 1), (2, 2, 1), (2, 2, 2), (2, 4, 2), (4, 4, 2), (4, 4, 4)]
    assert bisection_grid((3, 5)) == (3, 5)


@pytest.mark.parametrize("shape", [(64, 128), (67, 71), (16, 24, 32)])
@pytest.mark.parametrize("level", [0, 1, 2, 3, 4, 5, 6])
def test_cells_tile_the_image_and_are_equal(shape: tuple[int, ...], level: int) -> None:
    boxes = anatomy_cell_boxes(shape, level)
    grid = bisection_grid(level, len(shape))
    assert boxes.shape == (2**level, 2, len(shape))
    assert (boxes[:, 1] == np.array(shape) // np.array(grid)).all()
    seen = torch.zeros(shape, dtype=torch.int64)
    for box in boxes:
        seen[box_slices(box)] += 1
    whole = tuple(slice(0, side - side % parts) for side, parts in zip(shape, grid, strict=True))
    assert (seen[whole] == 1).all()
    assert seen.sum() == seen[whole].numel()


def test_cells_come_row_by_row_and_a_level_refines_the_one_before() -> None:
    assert anatomy_cell_boxes((4, 6), (2, 3))[:, 0].tolist() == [[0, 0], [0, 2], [0, 4], [2, 0], [2, 2], [2, 4]]
    for level in range(5):
        coarse, fine = anatomy_cell_boxes((64, 64), level), anatomy_cell_boxes((64, 64), level + 1)
        for box in fine:
            inside = [((box[0] >= c[0]) & (box.sum(0) <= c.sum(0))).all() for c in coarse]
            assert sum(inside) == 1


@pytest.mark.parametrize("level", [1, 2, 4, (3, 2)])
def test_every_cell_is_chosen_as_often(level: int) -> None:
    transform, image = RandAnatomyCell(level).set_random_state(0), torch.zeros(1, 12, 16)
    counts: Counter[tuple[int, ...]] = Counter()
    draws = 3200
    for _ in range(draws):
        transform(image)
        counts[tuple(transform.box[0])] += 1
    cells = len(anatomy_cell_boxes((12, 16), level))
    assert len(counts) == cells
    chi_square = sum((n - draws / cells) ** 2 for n in counts.values()) * cells / draws
    assert chi_square < 40  # 15 degrees of freedom: one run in a thousand


def test_the_cell_is_cut_out_as_it_is_and_knows_where_it_lay() -> None:
    image = MetaTensor(torch.rand(1, 8, 12), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    transform = RandAnatomyCell((2, 3)).set_random_state(3)
    cell = transform(image)
    row, col = transform.box[0].tolist()
    assert (row, col) != (0, 0)
    assert torch.equal(torch.as_tensor(cell), image.as_tensor()[:, row : row + 4, col : col + 4])
    assert cell.affine[:2, 3].tolist() == [2.0 * row, 3.0 * col]
    cell += 1.0
    assert image.max() <= 1.0


def test_keys_are_cut_alike() -> None:
    image = torch.rand(1, 8, 8)
    out = RandAnatomyCelld(["image", "label"], level=4).set_random_state(1)({"image": image, "label": image * 2})
    assert torch.equal(out["label"], out["image"] * 2)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"level must be at least 0, the whole image, got -1"):
        bisection_grid(-1)
    with pytest.raises(ValueError, match=r"an image of \(8, 3\) pixels has no \(4, 4\) cells; take a lower level"):
        anatomy_cell_boxes((8, 3), 4)
    with pytest.raises(ValueError, match=r"grid must have one value or 2"):
        bisection_grid((1, 2, 3))
