"""Attribution pictures: pairs of panels, color where the map is strong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.visualize.attributions import draw_attributions


def cover(figure):
    """Opacity of the first pair's map."""
    overlay = figure.axes[1].images[1]
    return overlay.to_rgba(overlay.get_array())[..., 3]


def test_pairs_of_panels_with_the_strongest_place_opaque():
    heat = np.zeros((8, 8))
    heat[2, 5] = 3.0
    figure = draw_attributions([np.eye(8)] * 3, [torch.as_tensor(heat)] * 3, ["a", "b", "c"], columns=2)
    assert len(figure.axes) == 8
    alpha = cover(figure)
    assert np.unravel_index(alpha.argmax(), alpha.shape) == (2, 5)
    assert alpha.min() == 0
    assert 0.2 < alpha.max() <= 0.4, "the radiograph stays visible"
    assert [figure.axes[n].get_title() for n in (0, 2, 4)] == ["a", "b", "c"]


def test_a_constant_map_has_no_color():
    figure = draw_attributions([np.eye(4)], [np.full((4, 4), 7.0)])
    assert not cover(figure).any()


def test_one_color_bar_says_what_the_colors_mean():
    figure = draw_attributions([np.eye(8)] * 3, [np.eye(8)] * 3, columns=2)
    (bar,) = [child for axis in figure.axes for child in axis.child_axes]
    assert [label.get_text() for label in bar.get_yticklabels()] == ["lowest", "highest"]
    assert figure.axes[3].child_axes == [bar], "beside the first row"


def test_sizes_and_numbers_are_named():
    with pytest.raises(ValueError, match=r"a map must have the size of its image \(4, 4\), got \(2, 2\)"):
        draw_attributions([np.eye(4)], [np.eye(2)])
    with pytest.raises(ValueError, match="must have the same, positive length"):
        draw_attributions([np.eye(4)], [])
