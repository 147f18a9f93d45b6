from __future__ import annotations

import pytest

from monai_anat.visualize import draw_intervals, encode_png


def test_one_panel_per_metric_and_one_dot_per_encoder():
    groups = {
        "Dice": {"ours": (0.8, 0.7, 0.9), "theirs": (0.6, 0.5, 0.7)},
        "error": {"ours": (0.1, None, None)},
    }
    figure = draw_intervals(groups, {"Dice": {"random": 0.4}}, ["Dice, higher", "error, lower"])
    assert [axis.get_title() for axis in figure.axes] == ["Dice, higher", "error, lower"]
    dots = [[line for line in axis.lines if line.get_marker() == "o"] for axis in figure.axes]
    assert [len(lines) for lines in dots] == [2, 1]
    assert [float(line.get_xdata()[0]) for line in dots[0]] == [0.8, 0.6]
    bars = [line for line in figure.axes[0].lines if list(line.get_xdata()) == [0.7, 0.9]]
    assert len(bars) == 1
    assert encode_png(figure)[1:4] == b"PNG"


def test_a_baseline_has_one_style_in_all_panels_and_one_entry_in_the_legend():
    groups = {name: {"ours": (0.8, None, None)} for name in ("Dice", "error")}
    figure = draw_intervals(groups, {"Dice": {"random": 0.4, "position": 0.5}, "error": {"position": 0.6}})
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == ["random", "position"]
    first, second = ({line.get_xdata()[0]: line._unscaled_dash_pattern for line in axis.lines} for axis in figure.axes)
    assert first[0.4] != first[0.5]
    assert first[0.5] == second[0.6]


def test_nothing_to_draw_is_said():
    with pytest.raises(ValueError, match="groups must hold at least one metric"):
        draw_intervals({})
    with pytest.raises(ValueError, match="titles one entry per metric"):
        draw_intervals({"Dice": {"ours": (0.8, None, None)}}, titles=["a", "b"])


def test_a_baseline_that_differs_is_drawn_beside_each_encoder():
    groups = {"Dice": {"ours": (0.8, None, None), "theirs": (0.7, None, None)}}
    figure = draw_intervals(groups, {"Dice": {"random": {"ours": 0.4, "theirs": 0.5}, "same": {"ours": 0.6}}})
    lines = {line.get_xdata()[0]: line for line in figure.axes[0].lines if line.get_marker() != "o"}
    assert sorted(lines) == [0.4, 0.5, 0.6]
    assert max(lines[0.4].get_ydata()) < min(lines[0.5].get_ydata())
    assert [text.get_text() for legend in figure.legends for text in legend.get_texts()] == ["random", "same"]
