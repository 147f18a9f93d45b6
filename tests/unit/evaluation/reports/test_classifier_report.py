"""Report of a classifier: metrics, undefined classes, files and attributions."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import torch
from monai.visualize import GradCAM
from PIL import Image

from monai_anat.data import DatalistError
from monai_anat.evaluation import report_classifier, write_attributions
from monai_anat.evaluation.reports import classifier_report
from monai_anat.networks import EncoderClassifier, SwinBackbone
from monai_anat.visualize.attributions import draw_attributions

NAN = float("nan")
NAMES = ["Mass", "Noise", "Hernia"]


def _case(count=80):
    """The label itself, noise, and a class without a positive image; two images per patient."""
    generator = torch.Generator().manual_seed(0)
    labels = (torch.rand(count, 3, generator=generator) > 0.5).float()
    labels[:, 2] = 0
    labels[5, 0] = NAN
    scores = torch.rand(count, 3, generator=generator)
    scores[:, 0] = labels[:, 0].nan_to_num() * 0.8 + 0.1
    items = [{"image": f"{number}.png", "patient": f"p{number // 2}"} for number in range(count)]
    return scores, labels, items


def test_the_label_scores_one_noise_about_a_half_and_one_kind_of_image_has_no_number(tmp_path):
    result = report_classifier(*_case(), NAMES, tmp_path, resamples=200, settings={"average": "prob"})
    metrics = result.metrics
    assert metrics["auroc/Mass"].value == metrics["auprc/Mass"].value == 1
    noise = metrics["auroc/Noise"]
    assert noise.low < 0.5 < noise.high
    assert metrics["auroc/Hernia"].value is None
    assert "all 80 test images with a known label are negative" in metrics["auroc/Hernia"].why
    assert any("Hernia" in note for note in result.notes)
    assert metrics["auroc"].value == pytest.approx((1 + noise.value) / 2)
    assert result.n_patients == 40
    assert result.settings["average"] == "prob"
    text = (tmp_path / "classification.json").read_text()
    assert json.loads(text) == result.to_json(replicates=False)
    assert "NaN" not in text


def test_no_class_that_can_be_measured_is_said_too(tmp_path):
    scores, labels, items = _case(6)
    result = report_classifier(scores, labels * 0, items, NAMES, tmp_path, resamples=50)
    assert result.metrics["auroc"].value is None
    assert "no class has both" in result.metrics["auroc"].why
    nothing = report_classifier(scores, torch.full_like(labels, NAN), items, NAMES, tmp_path / "b", resamples=50)
    assert nothing.extra["calibration_error"] == {}
    assert not (tmp_path / "b" / "calibration.png").exists()


def test_exclusive_classes_have_an_accuracy_over_known_images(tmp_path):
    labels = torch.eye(3)[[0, 1, 2, 2]]
    scores = torch.eye(3)[[0, 1, 2, 0]] * 0.9
    labels[1] = NAN
    items = [{"image": f"{number}.png"} for number in range(4)]
    result = report_classifier(scores, labels, items, NAMES, tmp_path, exclusive=True, resamples=50)
    assert result.metrics["accuracy"].value == pytest.approx(2 / 3)
    unknown = report_classifier(scores, labels * NAN, items, NAMES, tmp_path, exclusive=True, resamples=50)
    assert unknown.metrics["accuracy"].value is None


def test_predictions_and_the_calibration_plot_are_written(tmp_path):
    scores, labels, items = _case()
    result = report_classifier(scores, labels, items, NAMES, tmp_path, resamples=50)
    rows = list(csv.DictReader((tmp_path / "predictions.csv").read_text().splitlines()))
    assert len(rows) == 80
    assert float(rows[3]["Noise"]) == pytest.approx(scores[3, 1].item(), abs=1e-4)
    assert rows[5]["image"] == "test 5"
    assert json.loads((tmp_path.parent / f"{tmp_path.name}.files.json").read_text())["test 5"].endswith("5.png")
    assert rows[5]["label of Mass"] == ""
    assert rows[4]["label of Mass"] == str(int(labels[4, 0]))
    assert set(result.extra["calibration_error"]) == set(NAMES)
    with Image.open(io.BytesIO((tmp_path / "calibration.png").read_bytes())) as picture:
        assert picture.size[0] > 200


def test_rows_that_do_not_match_are_named(tmp_path):
    scores, labels, items = _case()
    with pytest.raises(DatalistError, match=r"must be \(79, 3\), a row per item .* got \(80, 3\) and \(80, 3\)"):
        report_classifier(scores, labels, items[1:], NAMES, tmp_path)


@pytest.mark.parametrize("frozen", [False, True])
def test_attributions_show_the_surest_image_of_each_class(frozen, tmp_path):
    torch.manual_seed(0)
    network = EncoderClassifier(SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2)), 2, frozen=frozen).eval()
    dataset = [{"image": torch.rand(1, 40, 40) + number, "label": torch.zeros(2)} for number in range(3)]
    asked = []

    def visualizer(image, class_idx):
        asked.append((image.mean().item(), class_idx, tuple(image.shape)))
        return GradCAM(network, "backbone", postprocessing=lambda heat: heat)(image, class_idx=class_idx)

    scores = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.3]])
    path = write_attributions(visualizer, dataset, scores, ["Mass", "Edema"], tmp_path / "a" / "x.png", size=32)
    assert [(int(mean), number) for mean, number, _ in asked] == [(1, 0), (0, 1)]
    assert {shape for *_, shape in asked} == {(1, 1, 32, 32)}
    assert np.asarray(Image.open(path)).std() > 0


def test_attributions_repeat_no_image_while_there_are_others_and_say_the_label(tmp_path, monkeypatch):
    shown, captions = [], []

    def visualizer(image, class_idx):
        shown.append(int(image.mean().item()))
        return image

    def draw(images, maps, texts, **arguments):
        captions[:] = texts
        return draw_attributions(images, maps, texts, **arguments)

    monkeypatch.setattr(classifier_report, "draw_attributions", draw)
    labels = torch.tensor([[1.0, 0.0, NAN], [0.0, 1.0, 0.0]])
    dataset = [{"image": torch.full((1, 32, 32), float(number)), "label": labels[number]} for number in range(2)]
    scores = torch.tensor([[0.9, 0.8, 0.7], [0.5, 0.6, 0.2]])
    write_attributions(visualizer, dataset, scores, NAMES, tmp_path / "x.png", size=32)
    assert shown == [0, 1, 0], "the second class has an image of its own, the third finds none left"
    assert captions == ["Mass: 90%\nlabel: yes", "Noise: 60%\nlabel: yes", "Hernia: 70%\nlabel: unknown"]
