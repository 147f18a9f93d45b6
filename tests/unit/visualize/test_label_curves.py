"""Curves over numbers of labels."""

from __future__ import annotations

import pytest

from monai_anat.visualize import encode_png
from monai_anat.visualize.label_curves import draw_label_curves


def test_one_color_per_encoder_one_style_per_way_and_every_interval():
    points = [(3, 0.8, None, None), (1, 0.7, 0.6, 0.75)]
    figure = draw_label_curves({"ours": {"tuned": points, "frozen": points}, "scratch": {"tuned": points}}, "n", "Dice")
    (axis,) = figure.axes
    lines = [line for line in axis.lines if line.get_marker() == "o"]
    assert [line.get_ydata()[0] for line in lines] == [0.7, 0.7, 0.7], "in order of the numbers"
    assert lines[0].get_color() == lines[1].get_color() != lines[2].get_color()
    assert lines[0]._unscaled_dash_pattern == lines[2]._unscaled_dash_pattern != lines[1]._unscaled_dash_pattern
    bars = [list(line.get_ydata()) for line in axis.lines if line.get_marker() != "o"]
    assert bars == [[0.6, 0.75]] * 3
    assert len({float(line.get_xdata()[0]) for line in lines}) == 3, "side by side"
    assert [tick.get_text() for tick in axis.get_xticklabels()] == ["1", "3"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours", "scratch", "tuned", "frozen"]
    assert encode_png(figure)[1:4] == b"PNG"


def test_one_way_needs_no_style_in_the_legend():
    figure = draw_label_curves({"ours": {"tuned": [(1, 0.5, None, None)]}})
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["ours"]


@pytest.mark.parametrize("curves", [{}, {"ours": {"": []}}, {"ours": {"": [(0, 0.5, None, None)]}}])
def test_nothing_to_draw_is_said(curves):
    with pytest.raises(ValueError, match="positive numbers of labels, got"):
        draw_label_curves(curves)
