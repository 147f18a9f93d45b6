"""Panels, bytes and gray images; nothing touches pyplot."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from monai_anat.visualize import (
    draw_curves,
    draw_intervals,
    draw_restorations,
    draw_segmentations,
    encode_png,
    picture_panels,
    show_gray,
)
from monai_anat.visualize.attributions import draw_attributions
from monai_anat.visualize.calibration import draw_calibration
from monai_anat.visualize.correspondences import draw_correspondence
from monai_anat.visualize.embedding_map import draw_embedding_map
from monai_anat.visualize.figures import as_gray, equal_lengths, rasterize
from monai_anat.visualize.label_curves import draw_label_curves
from monai_anat.visualize.views import draw_contact_sheet


def test_gray_takes_arrays_and_tensors() -> None:
    image = np.random.default_rng(0).random((3, 6, 7), dtype=np.float32)
    assert np.allclose(as_gray(image), image.mean(axis=0))
    assert np.array_equal(as_gray(torch.from_numpy(image[0])), image[0])
    assert np.array_equal(as_gray(torch.from_numpy(image[:1]).requires_grad_()), image[0])
    assert as_gray(torch.ones(2, 3, dtype=torch.bfloat16)).dtype == np.float32


def test_gray_names_a_batch() -> None:
    with pytest.raises(ValueError, match=r"target must be \(H, W\).*got shape \(2, 1, 4, 4\)"):
        as_gray(np.zeros((2, 1, 4, 4)), "target")


def test_bright_pixels_are_drawn_bright() -> None:
    figure, axes = picture_panels(1, 1)
    pixels = np.zeros((32, 32))
    pixels[:, 16:] = 1.0
    show_gray(axes[0, 0], pixels)
    picture = rasterize(figure)
    middle = picture[:, picture.shape[1] // 2]
    assert middle[0, picture.shape[2] // 4] < 30
    assert middle[0, 3 * picture.shape[2] // 4] > 225


def test_encoding_is_the_same_each_time_and_leaves_pyplot_alone() -> None:
    first, second = (encode_png(picture_panels(1, 2, title="a")[0]) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()


def test_unequal_lists_are_named() -> None:
    assert equal_lengths(a=[1, 2], b=[3, 4]) == 2
    with pytest.raises(ValueError, match="got a 2, b 1"):
        equal_lengths(a=[1, 2], b=[3])
    with pytest.raises(ValueError, match="positive length"):
        equal_lengths(a=[], b=[])


def test_names_with_dollar_signs_are_drawn_as_they_are_in_every_figure():
    """A landmark or class named "$x_{$" is text and not mathematics, which matplotlib would refuse to parse."""
    name = "$x_{$"
    points = np.array([[2.0, 3.0]])
    figures = [
        draw_correspondence(np.eye(8), points, np.eye(8), points, names=[name], titles=(name, name)),
        draw_embedding_map([[0.0, 1.0]], [0], [name], title=name),
        draw_intervals({name: {name: (0.8, 0.7, 0.9)}}, {name: {name: 0.5}}),
        draw_label_curves({name: {"": [(1, 0.7, 0.6, 0.8)]}}, x_label="labels"),
        draw_calibration({name: ([0.1], [0.0], [5])}, {name: name}),
        draw_curves([{"step": 1, name: 2.0}, {"step": 2, name: 1.0}]),
        draw_segmentations([np.eye(8)], [np.eye(8, dtype=int)], class_names=("background", name), captions=[name]),
        draw_contact_sheet([np.eye(8)], [name]),
        draw_attributions([np.eye(8)], [np.eye(8)], [name], title=name),
        draw_restorations([np.eye(8)], [np.eye(8)], [np.eye(8)], [name]),
    ]
    for figure in figures:
        assert encode_png(figure)[1:4] == b"PNG"
