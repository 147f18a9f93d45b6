"""Page and table of the demonstration."""

from __future__ import annotations

import json

import pytest
import torch

from monai_anat.data import pretraining_datalist, segmentation_datalist
from monai_anat.evaluation import FewShotSegmentation, Report, ReportFigure, save_restorations
from monai_anat.evaluation.reports.demo import (
    add_crops,
    add_dice,
    add_training,
    demo_report,
    difference_sentence,
    few_shot_table,
)
from monai_anat.evaluation.reports.report import ReportTable
from monai_anat.methods import POPARMethod, RandPOPARViewsd
from monai_anat.networks import ViTBackbone, save_encoder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    encoder = ViTBackbone(image_size=32, patch_size=8, embed_dim=8, depth=4, num_heads=2)
    save_encoder(encoder, folder / "encoder", image_size=32, mean=0.5, std=0.25)
    splits = [segmentation_datalist(split)[:4] for split in ("training", "validation", "test")]
    protocol = FewShotSegmentation(
        shots=2, seeds=(4, 7), image_size=32, steps=2, learning_rates=(1e-3,), output_dir=folder / "few", progress=False
    )
    return folder, protocol.run(encoder, *splits)


def test_table_has_every_draw_and_the_difference(runs) -> None:
    table = few_shot_table(runs[1]).splitlines()
    assert table[0].split() == ["arm", "draw", "4", "draw", "7", "mean", "std", "lr"]
    assert table[1].split()[0] == "pre-trained"
    assert float(table[2].split()[3]) == pytest.approx(runs[1]["arms"]["scratch"]["mean"], abs=6e-4)
    assert table[3].startswith("pre-trained - scratch: ")


def test_page_holds_what_the_runs_left(runs, tmp_path) -> None:
    folder, result = runs
    training = tmp_path / "training"
    popar = POPARMethod(ViTBackbone(image_size=32, patch_size=8, embed_dim=8, depth=4, num_heads=2), image_size=32)
    views, items = RandPOPARViewsd(grid_size=4, cell_size=8), [{"image": torch.rand(1, 32, 32)}]
    save_restorations(training / "restorations.npz", popar, views, items, count=1)
    lines = [
        {"step": step, "epoch": 0, "loss": 1.0 / step, "order": 2.0, "samples_per_second": 17.0} for step in (1, 2)
    ]
    lines.append({"step": 2, "epoch": 1, "effective_rank": 3.0})  # a probe's line has no rate
    (training / "metrics.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    path = demo_report(
        tmp_path / "out" / "report.html",
        few_shot_dir=folder / "few",
        encoder_dir=folder / "encoder",
        training_dir=training,
        pretraining=pretraining_datalist()[:1],
        test=segmentation_datalist("test")[:4],
    )
    page = path.read_text(encoding="utf-8")
    assert page.count("data:image/png") == 2 + 1 + 1 + 1 + 3, "masks, crops, restorations, curves, three pairs"
    for name in ("pre-trained", "same position", "random initialization"):
        assert f"<td>{name}</td>" in page
    assert f"<td>{result['arms']['scratch']['mean']:.3f}</td>" in page
    assert "2 steps, 17 images per second." in page
    for heading in ("Segmentation from a few labels", "Restoration", "Training", "in another patient"):
        assert heading in page


def test_page_can_do_without_the_pre_training_run(runs, tmp_path) -> None:
    path = demo_report(tmp_path / "r.html", few_shot_dir=runs[0] / "few", encoder_dir=runs[0] / "encoder")
    assert path.read_text(encoding="utf-8").count("data:image/png") == 2


def test_a_missing_result_is_named(runs, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"few_shot\.json"):
        demo_report(tmp_path / "r.html", few_shot_dir=tmp_path, encoder_dir=runs[0] / "encoder")


VALUE = {"mean": 0.05, "interval": [0.01, 0.09], "confidence": 0.95, "draws_better": 1.0, "per_draw": [0.05]}


def few_shot_result() -> dict:
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
    add_dice(report, few_shot_result())
    (_, blocks), *_ = report.sections
    table = next(block for block in blocks if isinstance(block, ReportTable))
    assert table.columns == ["encoder", "draw", "right lung", "left lung", "mean Dice"]
    assert table.rows[0] == ["a", "3", 0.9, 0.7, 0.8]
    assert [table.rows[number][1] for number in table.strong] == ["mean", "mean"]


def test_page_and_table_say_that_a_difference_is_not_that_of_the_means() -> None:
    sentence = "a difference gives every patient the same weight"
    report = Report("t")
    add_dice(report, few_shot_result())
    assert sentence in report.render()
    assert sentence in few_shot_table(few_shot_result())
    assert sentence not in few_shot_table({**few_shot_result(), "difference": {}})


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


def test_a_difference_without_interval_has_no_brackets() -> None:
    assert difference_sentence("a - b", {**VALUE, "interval": None}) == (
        "a - b: +0.050 Dice, ahead in 100% of the draws"
    )
