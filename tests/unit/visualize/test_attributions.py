"""Attribution pictures: pairs of panels, colour where the map is strong."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.visualize import draw_attributions


def test_pairs_of_panels_with_the_strongest_place_opaque():
    heat = np.zeros((8, 8))
    heat[2, 5] = 3.0
    figure = draw_attributions([np.eye(8)] * 3, [torch.as_tensor(heat)] * 3, ["a", "b", "c"], columns=2)
    assert len(figure.axes) == 8
    overlay = figure.axes[1].images[1]
    alpha = np.asarray(overlay.get_alpha())
    assert np.unravel_index(alpha.argmax(), alpha.shape) == (2, 5)
    assert alpha.min() == 0
    assert [figure.axes[n].get_title() for n in (0, 2, 4)] == ["a", "b", "c"]


def test_a_constant_map_has_no_colour():
    figure = draw_attributions([np.eye(4)], [np.full((4, 4), 7.0)])
    assert not np.asarray(figure.axes[1].images[1].get_alpha()).any()


def test_sizes_and_numbers_are_named():
    with pytest.raises(ValueError, match=r"a map must have the size of its image \(4, 4\), got \(2, 2\)"):
        draw_attributions([np.eye(4)], [np.eye(2)])
    with pytest.raises(ValueError, match="must have the same, positive length"):
        draw_attributions([np.eye(4)], [])
