"""Curves show what was logged, whatever came and went."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.visualize import draw_curves


def test_each_quantity_has_its_own_panel_with_its_own_points() -> None:
    history = [{"step": step, "epoch": 0, "loss": 10.0 - step} for step in range(10)]
    history[4]["probe"] = 0.5
    history[8]["probe"] = float("nan")
    figure = draw_curves(history)
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[:2] == ["loss", "probe"]
    assert np.array_equal(figure.axes[0].lines[0].get_ydata(), [10.0 - step for step in range(10)])
    assert np.array_equal(figure.axes[1].lines[0].get_xdata(), [4])


def test_the_smooth_line_ignores_an_outlier() -> None:
    history = [{"step": step, "loss": 1.0} for step in range(100)]
    history[50]["loss"] = 1e6
    smooth = draw_curves(history).axes[0].lines[1].get_ydata()
    assert np.array_equal(smooth, np.ones(100))


def test_names_choose_and_order() -> None:
    figure = draw_curves([{"step": 0, "a": 1, "b": 2, "c": 3}], names=["c", "a"])
    assert [axis.get_title(loc="left") for axis in figure.axes] == ["c", "a"]


def test_an_empty_history_is_named() -> None:
    with pytest.raises(ValueError, match="numbers under 'step' and another key, got 1 rows"):
        draw_curves([{"step": 1}])
