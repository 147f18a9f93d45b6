"""Cells, crops and correspondence."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from monai_anat.transforms.geometry import (
    box_slices,
    crop_slices,
    grid_shape,
    join_cells,
    match_cells,
    per_axis,
    required_shape,
    split_cells,
)


def _labels(shape: tuple[int, ...], offset: tuple[int, ...], grid: tuple[int, ...]) -> torch.Tensor:
    """The numbers of the cells that a crop shows, row-major, when every cell of the grid has its own number."""
    numbers = torch.arange(int(np.prod(shape))).reshape(shape)
    return numbers[tuple(slice(o, o + g) for o, g in zip(offset, grid, strict=True))].reshape(-1)


def _assert_matches(shape: tuple[int, ...], o1: tuple[int, ...], o2: tuple[int, ...], grid: tuple[int, ...]) -> int:
    match = match_cells(o1, o2, grid)
    first, second = _labels(shape, o1, grid), _labels(shape, o2, grid)
    shown = match >= 0
    assert match.dtype == torch.int64 and match.shape == first.shape
    assert torch.equal(second[match[shown]], first[shown])
    assert not torch.isin(first[~shown], second).any()
    return int(shown.sum())


def test_all_625_offset_pairs_of_the_14_cell_grid_match_the_same_anatomy() -> None:
    total = 0
    for r1, c1, r2, c2 in product(range(5), repeat=4):
        pairs = _assert_matches((18, 18), (r1, c1), (r2, c2), (14, 14))
        assert pairs == (14 - abs(r1 - r2)) * (14 - abs(c1 - c2))
        total += pairs
    assert total == 96100


def test_random_3d_offsets_on_an_anisotropic_grid_match_the_same_anatomy() -> None:
    rng = np.random.RandomState(0)
    for _ in range(200):
        grid = tuple(rng.randint(1, 6, size=3).tolist())
        o1, o2 = (tuple(rng.randint(0, 7, size=3).tolist()) for _ in range(2))
        _assert_matches((13, 13, 13), o1, o2, grid)


def test_the_transposed_convention_would_be_right_for_14068_of_96100_pairs_only() -> None:
    right = views = 0
    for r1, c1, r2, c2 in product(range(5), repeat=4):
        truth, transposed = match_cells((r1, c1), (r2, c2), 14), match_cells((c1, r1), (c2, r2), 14)
        agree = int(((truth == transposed) & (truth >= 0)).sum())
        right += agree
        views += agree == int((truth >= 0).sum())
    assert (right, views) == (14068, 85)


def test_matching_is_symmetric_and_the_identity_at_equal_offsets() -> None:
    assert torch.equal(match_cells((3, 1), (3, 1), 14), torch.arange(196))
    there, back = match_cells((0, 3), (4, 1), 14), match_cells((4, 1), (0, 3), 14)
    shown = there >= 0
    assert torch.equal(back[there[shown]], torch.arange(196)[shown])
    assert int((match_cells((0, 0), (4, 4), 14) >= 0).sum()) == 100


def test_crops_without_overlap_have_no_pair_even_where_one_axis_overlaps() -> None:
    assert (match_cells((0, 0), (0, 14), 14) == -1).all()
    assert (match_cells((0, 0, 0), (0, 2, 0), 2) == -1).all()


def test_matching_accepts_arrays_and_tensors_as_offsets() -> None:
    expected = match_cells((1, 0), (0, 2), 3)
    assert torch.equal(match_cells(np.array([1, 0]), torch.tensor([0, 2]), (3, 3)), expected)


def test_split_and_join_are_inverse_in_2d_and_3d_with_and_without_batch() -> None:
    for shape, cell in [((2, 6, 8), (3, 2)), ((5, 2, 6, 8), (3, 2)), ((1, 4, 6, 8), (2, 3, 4)), ((3, 1, 4, 6, 8), 2)]:
        dims = 3 if shape in ((1, 4, 6, 8), (3, 1, 4, 6, 8)) else 2
        image = torch.rand(shape)
        cells = split_cells(image, cell, dims)
        assert torch.equal(join_cells(cells, grid_shape(shape[-dims:], cell)), image)


def test_cells_are_split_row_by_row() -> None:
    image = torch.rand(2, 6, 8, 4)
    cells = split_cells(image, (3, 2, 2), 3)
    for index, place in enumerate(np.ndindex(2, 4, 2)):
        assert torch.equal(cells[index], image[(slice(None), *crop_slices(place, 1, (3, 2, 2)))])


def test_crop_slices_and_required_shape_agree_at_the_last_offset() -> None:
    window = crop_slices((4, 4), 14, 32, origin=(31, 0))
    assert [part.stop for part in window] == [607, 576]
    assert required_shape(14, 32, 4, 2) == (576, 576)
    assert required_shape((4, 2, 1), (8, 8, 4), (1, 0, 2), 3) == (40, 16, 12)


def test_box_slices_address_the_last_axes() -> None:
    image = np.arange(2 * 4 * 5).reshape(2, 4, 5)
    assert np.array_equal(image[box_slices(np.array([[1, 2], [2, 3]]))], image[:, 1:3, 2:5])


def test_errors_name_the_argument_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"offset_1 and offset_2 must have one value per axis, got \(0, 0\)"):
        match_cells((0, 0), (0, 0, 0), 14)
    with pytest.raises(ValueError, match=r"multiple of cell_size, got \(450, 448\).*nearest is \(448, 448\)"):
        grid_shape((450, 448), 32)
    with pytest.raises(ValueError, match=r"grid_size must have one value or 2"):
        match_cells((0, 0), (0, 0), (1, 2, 3))
    with pytest.raises(ValueError, match=r"cell_size must be at least 1, got 0"):
        grid_shape((8, 8), 0)
    with pytest.raises(TypeError, match=r"cell_size must be whole numbers, got 2.5"):
        per_axis(2.5, 2, "cell_size")
    with pytest.raises(ValueError, match=r"multiple of patch_size, got \(9, 8\) and patch_size=\(4, 4\)"):
        grid_shape((9, 8), 4, "patch_size")
