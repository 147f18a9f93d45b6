"""The calibration plot: a panel per class, points at the shares."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.visualize.calibration import draw_calibration


def test_a_panel_per_class_with_its_points_and_captions():
    curves = {f"class {n}": ([0.1, 0.8], [0.0, 1.0], [3, 9]) for n in range(5)}
    figure = draw_calibration(curves, {"class 1": "calibration error 0.10"}, columns=4)
    drawn = [axis for axis in figure.axes if axis.axison]
    assert [axis.get_title().split("\n")[0] for axis in drawn] == list(curves)
    assert drawn[1].get_title().endswith("calibration error 0.10")
    points = drawn[0].collections[0]
    np.testing.assert_allclose(points.get_offsets(), [[0.1, 0.0], [0.8, 1.0]])
    small, large = points.get_sizes()
    assert small < large


def test_what_cannot_be_drawn_is_named():
    with pytest.raises(ValueError, match="curves must hold at least one class"):
        draw_calibration({})
    with pytest.raises(ValueError, match=r"of Mass must have the same, positive length, got lengths 1, 2 and 1"):
        draw_calibration({"Mass": ([0.1], [0.1, 0.2], [1])})
