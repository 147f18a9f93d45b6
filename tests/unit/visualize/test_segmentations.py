"""Masks are drawn where they lie."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.visualize import draw_segmentations


def test_every_structure_is_tinted_where_it_lies() -> None:
    mask = np.zeros((16, 16), int)
    mask[2:10, 1:6] = 1
    mask[4:12, 9:14] = 2
    axis = draw_segmentations([np.eye(16)], [mask], [mask], captions=["Dice 1"]).axes[0]
    layers = [image.get_array() for image in axis.images[1:]]
    assert [
        np.array_equal(layer[..., 3] > 0, mask == number) for layer, number in zip(layers, (1, 2), strict=True)
    ] == [
        True,
        True,
    ]
    assert not np.array_equal(layers[0][5, 3], layers[1][5, 10])
    assert axis.get_title() == "Dice 1"


def test_an_empty_or_full_prediction_is_no_error() -> None:
    empty = np.zeros((8, 8), int)
    figure = draw_segmentations([np.eye(8)] * 2, [empty, empty + 1], [empty + 1, empty], columns=1)
    assert len(figure.axes) == 2


def test_a_mask_of_another_size_is_named() -> None:
    with pytest.raises(ValueError, match=r"predictions must have the size of their image \(8, 8\), got \(4, 4\)"):
        draw_segmentations([np.eye(8)], [np.zeros((4, 4))])
    with pytest.raises(ValueError, match="images 1, truths 2"):
        draw_segmentations([np.eye(8)], [np.zeros((8, 8))], [np.zeros((8, 8))] * 2)
