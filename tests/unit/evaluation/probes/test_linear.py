"""Linear and nearest-neighbor probes: perfect for informative encoders, chance for noise."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from monai_anat.data import DatalistError
from monai_anat.evaluation import LinearProbe, NearestNeighborProbe, compare_results
from monai_anat.evaluation.class_protocol import Split
from monai_anat.evaluation.results import Result

FAST = {"resamples": 50, "random_seed": None}
PROBES = [LinearProbe, NearestNeighborProbe]


@pytest.mark.parametrize("probe", PROBES)
def test_one_of_many_classes(probe, splits, oracles) -> None:
    result = probe(**FAST, class_names=["a", "b", "c", "d"]).run(oracles.bands(), *splits(lambda n: n % 4))
    assert Result.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result
    assert result.metrics["auroc"].value == 1
    assert result.metrics["auprc/c"].value == 1
    assert result.metrics["accuracy"].value == 1
    assert len(result.extra["predictions"]["probabilities"]) == 20
    assert compare_results(result, result)["auroc"].difference == 0


@pytest.mark.parametrize("probe", PROBES)
def test_many_findings_and_unknown_labels(probe, splits, oracles) -> None:
    def label(number):
        return [int(number % 4 in (1, 2)), -1 if number % 5 == 0 else int(number % 4 == 3)]

    result = probe(**FAST, class_names=["mass", "edema"]).run(oracles.bands(), *splits(label))
    assert result.metrics["auroc/mass"].value == 1
    assert result.metrics["auroc/edema"].value == 1
    assert result.metrics["auroc/edema"].n_patients == 16
    assert result.extra["predictions"]["labels"][0] == [0, None]
    assert "accuracy" not in result.metrics


def test_noise_is_at_chance_and_random_weights_stand_beside(splits, oracles) -> None:
    result = LinearProbe(resamples=200, class_names=["a", "b"]).run(oracles.noise(), *splits(lambda n: n % 2))
    assert result.metrics["auroc"].low < 0.5 < result.metrics["auroc"].high
    assert list(result.baselines) == ["random initialization"]


def test_one_class_only_is_said_and_not_averaged(splits, oracles) -> None:
    data = splits(lambda n: [n % 2, int(n % 4 == 1)])
    for item in data[2]:
        item["label"][1] = 0
    result = LinearProbe(**FAST, class_names=["mass", "hernia"]).run(oracles.bands(), *data)
    sentence = "hernia has no area under a curve: all 20 test images with a known label are negative"
    assert result.metrics["auroc/hernia"].value is None
    assert result.metrics["auroc/hernia"].why == sentence
    assert result.notes == [f"Hernia{sentence[6:]}."]
    assert result.metrics["auroc"].value == result.metrics["auroc/mass"].value
    for item in data[2]:
        item["label"][0] = 1
    result = LinearProbe(**FAST).run(oracles.bands(), *data)
    assert result.metrics["auroc"].why.startswith("no class has both positive and negative test images")


def test_a_rare_finding_has_a_value_and_no_interval(splits, oracles) -> None:
    data = splits(lambda n: [n % 2, int(n == 3)])
    metric = LinearProbe(**FAST).run(oracles.bands(), *data).metrics["auroc/1"]
    assert metric.value is not None
    assert metric.low is None
    assert metric.why == "an interval needs at least 5 positive patients, got 1"


def test_a_constant_encoder_has_no_score(splits, oracles) -> None:
    result = LinearProbe(**FAST).run(oracles.constant(), *splits(lambda n: n % 2))
    assert result.collapsed is True
    assert result.metrics["auroc"].value is None
    assert "collapsed" in result.metrics["auroc"].why


def gradient(rows: np.ndarray, truth: np.ndarray, logits: np.ndarray, penalty: float, one_of_many: bool) -> float:
    """Largest gradient of the documented loss at the weights that give these logits, in float64."""
    design = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    solved = np.linalg.lstsq(design, logits, rcond=None)[0]
    weight = torch.tensor(solved, requires_grad=True)
    outputs = torch.as_tensor(design) @ weight
    target = torch.as_tensor(truth)
    if one_of_many:
        loss = torch.nn.functional.cross_entropy(outputs, target)
    else:
        loss = torch.nn.functional.binary_cross_entropy_with_logits(outputs, target)
    loss = loss + penalty / (2 * truth.shape[1]) * weight[:-1].square().sum()
    return float(torch.autograd.grad(loss, weight)[0].abs().max())


@pytest.mark.parametrize(("classes", "one_of_many"), [(2, True), (3, True), (3, False), (1, False)])
@pytest.mark.parametrize("penalty", [1.0, 0.01])
def test_the_linear_fit_is_the_minimum_of_the_documented_loss(classes, one_of_many, penalty) -> None:
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(60, 4))
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    noisy = rows @ generator.normal(size=(4, classes)) + generator.normal(size=(60, classes))
    truth = np.eye(classes)[noisy.argmax(axis=1)] if one_of_many else (noisy > 0).astype(float)
    split = Split(rows, truth)
    scores, chosen = LinearProbe(penalties=(penalty,)).predict(split, split, rows, one_of_many)
    logits = np.log(scores) - (np.log(scores).mean(axis=1, keepdims=True) if one_of_many else np.log(1 - scores))
    assert gradient(rows, truth, logits, penalty, one_of_many) < 2e-4
    assert chosen["penalty"] == penalty


def test_a_class_that_no_training_image_has_gets_no_probability() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 3))
    truth = np.eye(3)[np.arange(12) % 2]
    scores, _ = LinearProbe().predict(Split(rows, truth), Split(rows, np.eye(3)[np.arange(12) % 3]), rows, True)
    assert np.isfinite(scores).all() and (scores[:, 2] < 1e-9).all()
    alone = Split(rows, np.tile([1.0, np.nan], (12, 1)))
    scores, _ = LinearProbe().predict(alone, alone, rows, False)
    assert (scores[:, 1] == 0.5).all() and (scores[:, 0] > 0.99).all()


def test_bad_data_are_named(splits, oracles) -> None:
    data = splits(lambda n: n % 2)
    with pytest.raises(DatalistError, match="test must hold at least one image for linear, got none"):
        LinearProbe(**FAST).run(oracles.bands(), data[0], data[1], [])
    with pytest.raises(DatalistError, match="one split only"):
        LinearProbe(**FAST).run(oracles.bands(), data[0], data[1], data[0])
    with pytest.raises(DatalistError, match=r"class number must be in 0..1 for \['a', 'b'\].* got 2"):
        LinearProbe(**FAST, class_names=["a", "b"]).run(oracles.bands(), *splits(lambda n: n % 3))
    with pytest.raises(DatalistError, match="items must hold at least two patients, got 1"):
        NearestNeighborProbe(**FAST).run_within(oracles.bands(), data[0][:1])
