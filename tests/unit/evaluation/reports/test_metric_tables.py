"""Tables and figures of metrics."""

from __future__ import annotations

from monai_anat.evaluation import LandmarkProbe, Report, ReportFigure, Result
from monai_anat.evaluation.metric import Metric
from monai_anat.evaluation.reports.metric_tables import (
    add_metrics,
    curve_figures,
)
from monai_anat.evaluation.reports.report import ReportTable


def test_scores_against_labels_are_drawn_for_encoders_and_baselines() -> None:
    metric = Metric(0.7, 0.6, 0.8)
    both = {"dice/1": metric, "dice/3": Metric.undefined("no mask")}
    curve = {"x_label": "labels", "y_label": "Dice", "ways": {"frozen": [[1, "dice/1"], [3, "dice/3"]]}}
    found = Result("few-shot", metrics=both, baselines={"scratch": {"dice/1": metric}}, extra={"curves": [curve]})
    (figure,) = curve_figures({"ours": found, "theirs": found})
    (axis,) = figure.figure.axes
    assert [len(line.get_xdata()) for line in axis.lines if line.get_marker() == "o"] == [1, 1, 1]
    assert [text.get_text() for text in figure.figure.legends[0].get_texts()] == ["ours", "theirs", "scratch"]
    assert curve_figures({"ours": Result("few-shot", metrics=both)}) == []


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
