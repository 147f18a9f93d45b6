"""Run lengths and polygons become exact masks."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.outlines import polygon_mask, run_length_mask


def _encode(mask: np.ndarray) -> str:
    """Gaps and lengths down the columns, the slow way."""
    words, gap, length = [], 0, 0
    for value in [*mask.T.ravel().tolist(), 0]:
        if value:
            length += 1
        elif length:
            words += [gap, length]
            gap, length = 1, 0
        else:
            gap += 1
    return " ".join(map(str, words)) or "-1"


def test_run_lengths_of_random_masks_come_back() -> None:
    generator = np.random.default_rng(0)
    for share in (0, 0.02, 0.5, 1):
        mask = (generator.random((13, 9)) < share).astype(np.uint8)
        np.testing.assert_array_equal(run_length_mask([_encode(mask)], (13, 9)), mask)


def test_regions_are_united_and_the_hand_case_holds() -> None:
    assert np.argwhere(run_length_mask(["1 2 3 1"], (4, 4))).tolist() == [[1, 0], [2, 0], [2, 1]]
    assert run_length_mask(["0 1", "-1", "15 1"], (4, 4)).sum() == 2
    assert run_length_mask(["-1"], (3, 5)).shape == (3, 5)


@pytest.mark.parametrize("code", ["1", "a b", "", "1 -2", "3 x"])
def test_codes_that_are_none(code: str) -> None:
    with pytest.raises(DatalistError, match="run lengths must be pairs of whole numbers"):
        run_length_mask([code], (4, 4))


def test_codes_beyond_the_image() -> None:
    with pytest.raises(DatalistError, match="must fit into the image, got 17 pixels for 4 x 4"):
        run_length_mask(["10 7"], (4, 4))


def test_polygons_are_filled_and_united() -> None:
    square = [[2, 1], [5, 1], [5, 3], [2, 3]]
    mask = polygon_mask([square, [[0, 0], [0, 0], [0, 0]]], (6, 8))
    expected = np.zeros((6, 8), np.uint8)
    expected[1:4, 2:6] = 1
    expected[0, 0] = 1
    np.testing.assert_array_equal(mask, expected)
    assert polygon_mask([], (3, 4)).shape == (3, 4)
    for polygon in ([[1, 1], [2, 2]], "None", [[1], [2], [3]]):
        with pytest.raises(DatalistError, match="at least three points"):
            polygon_mask([polygon], (6, 8))  # type: ignore[list-item]
