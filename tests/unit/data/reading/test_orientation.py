from __future__ import annotations

import itertools

import numpy as np
import pytest

from monai_anat.data.reading.orientation import Turn, apply_turn, picture_affine, turn_of


@pytest.mark.parametrize("plane", [(0, 1), (0, 2), (1, 2)])
def test_every_storage_of_a_picture_is_turned_to_the_same_one(plane: tuple[int, int]) -> None:
    picture = np.arange(12).reshape(3, 4)
    # rows run along -world axis plane[1], columns along -plane[0], at 2 mm and .5 mm
    for transpose, flip_rows, flip_columns in itertools.product([False, True], repeat=3):
        stored = picture[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]
        row = np.zeros(3)
        column = np.zeros(3)
        row[plane[1]] = 2.0 if flip_rows else -2.0
        column[plane[0]] = 0.5 if flip_columns else -0.5
        affine = np.eye(4)
        affine[:3, 3] = 7.0
        stored, axes = (stored.T, (column, row)) if transpose else (stored, (row, column))
        affine[:3, 0], affine[:3, 1] = axes
        turn = turn_of(affine)
        assert turn == Turn(transpose, flip_rows, flip_columns)
        np.testing.assert_array_equal(apply_turn(stored, turn), picture)


def test_slightly_rotated_affines_are_read_by_their_nearest_axis() -> None:
    angle = np.deg2rad(5)
    affine = np.eye(4)
    affine[:2, :2] = -np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine[0, 3] = 1
    assert turn_of(affine) == Turn(transpose=True)


def test_affines_without_orientation_mean_columns_first() -> None:
    swapped = np.eye(4)[[1, 0, 2, 3]]
    for affine in (np.eye(4), np.eye(3), np.diag([0.2, 0.2, 1, 1]), np.full((4, 4), np.nan), np.zeros((4, 4)), swapped):
        assert turn_of(affine) == Turn(transpose=True)


def test_own_affine_means_rows_first() -> None:
    assert turn_of(picture_affine((0.2, 0.3))) == Turn()
