from __future__ import annotations

import itertools

import numpy as np
import pytest

from monai_anat.data.reading.orientation import (
    StoredPicture,
    Turn,
    apply_turn,
    have_same_shape,
    picture_affine,
    states_orientation,
    stored_affine,
    turn_of,
    turn_points,
    undo_turn,
)

TURNS = [Turn(*flags) for flags in itertools.product([False, True], repeat=3)]


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


@pytest.mark.parametrize("turn", TURNS)
@pytest.mark.parametrize("other", TURNS)
def test_turns_compose_and_invert(turn: Turn, other: Turn) -> None:
    picture = np.arange(12).reshape(3, 4)
    both = apply_turn(apply_turn(picture, turn), other)
    np.testing.assert_array_equal(apply_turn(picture, turn.then(other)), both)
    np.testing.assert_array_equal(undo_turn(apply_turn(picture, turn), turn), picture)


@pytest.mark.parametrize("turn", TURNS)
def test_points_and_affines_follow_the_picture(turn: Turn) -> None:
    picture = np.arange(12).reshape(3, 4)
    stored = StoredPicture((3, 4), turn)
    upright = apply_turn(picture, turn)
    assert upright.shape == turn.shape((3, 4))
    for row, column in np.ndindex(3, 4):
        moved = turn_points([row, column], stored)
        assert upright[int(moved[0]), int(moved[1])] == picture[row, column]
        world = stored_affine((2.0, 0.5), stored) @ [row, column, 0, 1]
        np.testing.assert_allclose(world, picture_affine((2.0, 0.5)) @ [*moved, 0, 1])
    assert turn_of(stored_affine((2.0, 0.5), stored)) == turn
    assert np.isnan(turn_points([[np.nan, 1.0]], stored)).any()


def test_defaults_of_tools_state_no_orientation() -> None:
    itk_default, shifted = np.diag([-0.2, -0.2, 1, 1.0]), np.eye(4)
    shifted[0, 3] = 5
    for affine in (np.eye(4), itk_default, np.eye(3), np.zeros((4, 4))):
        assert not states_orientation(affine)
    for affine in (shifted, np.diag([-1.0, 1, 1, 1]), np.diag([1.0, -1, 1, 1]), picture_affine((1, 1))):
        assert states_orientation(affine)


def test_shapes_that_belong_together() -> None:
    assert have_same_shape((2021, 1701), (512, 431)) and have_same_shape((5, 5), (9, 9))
    for other in ((80, 96), (96, 95), (48, 42), (97, 80)):
        assert not have_same_shape((96, 80), other), other
    stored = StoredPicture((96, 80), Turn(transpose=True, flip_columns=True))
    assert stored.turn_for((48, 40)) == stored.turn and stored.turn_for((80, 96)) == Turn()
    assert stored.turn_for((96, 96)) is None
