"""Sections say what the numbers say."""

from __future__ import annotations

from monai_anat.data import segmentation_datalist
from monai_anat.evaluation import LandmarkProbe, Report, ReportFigure, ReportTable
from monai_anat.evaluation.reports.metric_tables import (
    add_crops,
    add_dice,
    add_metrics,
    add_training,
    curve_figures,
    difference_sentence,
)

VALUE = {"mean": 0.05, "interval": [0.01, 0.09], "confidence": 0.95, "draws_better": 1.0, "per_draw": [0.05]}


def result() -> dict:
    draws = [{"seed": 3, "dice": 0.8, "right lung": 0.9, "left lung": 0.7}]
    arm = {"mean": 0.8, "std": 0.0, "learning_rate": 0.001, "draws": draws}
    protocol = {"class_names": ["background", "right lung", "left lung"]}
    return {"protocol": protocol, "arms": {"a": arm, "b": arm}, "difference": {"a - b": VALUE}}


def test_difference_in_words() -> None:
    sentence = difference_sentence("a - b", VALUE)
    assert sentence.startswith("a - b: +0.050 Dice (95% interval +0.010 to +0.090")
    assert sentence.endswith("ahead in 100% of the draws")


def test_dice_table_has_each_draw_and_its_mean() -> None:
    report = Report("t")
    add_dice(report, result())
    (_, blocks), *_ = report.sections
    table = next(block for block in blocks if isinstance(block, ReportTable))
    assert table.columns == ["encoder", "draw", "right lung", "left lung", "mean Dice"]
    assert table.rows[0] == ["a", "3", 0.9, 0.7, 0.8]
    assert [table.rows[number][1] for number in table.strong] == ["mean", "mean"]


def test_crops_are_cut_where_they_are_drawn() -> None:
    report = Report("t")
    add_crops(report, segmentation_datalist("test")[0], 4, 8, 1)
    (_, blocks), *_ = report.sections
    figure = next(block for block in blocks if isinstance(block, ReportFigure)).figure
    source, first, _ = figure.axes
    frame = next(patch for patch in source.patches if not patch.get_fill())
    left, top = (round(value + 0.5) for value in frame.get_xy())
    pixels = source.images[0].get_array()[top : top + 32, left : left + 32]
    assert (pixels == first.images[0].get_array()).all()


def test_an_empty_training_folder_adds_nothing(tmp_path) -> None:
    report = Report("t")
    add_training(report, tmp_path)
    assert report.sections == []


def test_scores_against_labels_are_drawn_for_encoders_and_baselines() -> None:
    metric = {"value": 0.7, "low": 0.6, "high": 0.8}
    both = {"dice/1": metric, "dice/3": {**metric, "value": None}}
    curve = {"x_label": "labels", "y_label": "Dice", "ways": {"frozen": [[1, "dice/1"], [3, "dice/3"]]}}
    found = {"metrics": both, "baselines": {"scratch": {"dice/1": metric}}, "curves": [curve]}
    (figure,) = curve_figures({"ours": found, "theirs": found})
    (axis,) = figure.figure.axes
    assert [len(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"] == [1, 1, 1]
    assert [text.get_text() for text in figure.figure.legends[0].get_texts()] == ["ours", "theirs", "scratch"]
    assert curve_figures({"ours": {"metrics": both}}) == []


def test_a_protocol_is_drawn_and_marked_where_it_beats_every_baseline(lungs, oracles, coordinates) -> None:
    for encoder, marked in ((oracles.frozen(coordinates()), True), (oracles.noise(), False)):
        found = LandmarkProbe(center=False, resamples=50, random_seed=None).run(encoder, lungs["training"])
        report = Report("t")
        add_metrics(report, found)
        (heading, blocks), *_ = report.sections
        assert heading == "Landmarks"
        assert sum(isinstance(block, ReportFigure) for block in blocks) == 4, "the panels, and three cases"
        table = next(block for block in blocks if isinstance(block, ReportTable))
        error = next(row for row in table.rows if row[0] == "error ↓")
        assert ("▲" in error[1]) is marked
        assert table.columns == ["metric", "encoder", "same position", "unit"]
        assert error[3] == "thorax widths"
