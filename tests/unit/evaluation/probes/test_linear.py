"""Probes on class labels: perfect for an encoder that knows, chance for noise, a sentence for what is undefined."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from monai_anat.data import DatalistError
from monai_anat.evaluation import LinearProbe, NearestNeighborProbe, compare_results
from monai_anat.evaluation.probes.linear import _fit

FAST = {"resamples": 50, "random_seed": None}
PROBES = [LinearProbe, NearestNeighborProbe]


def pictures(folder, count: int, label) -> list[dict]:
    items = []
    generator = np.random.default_rng(len(folder.name) + count)
    for number in range(count):
        level = (0, 77, 153, 255)[number % 4]
        image = np.full((48, 48), level, np.uint8)
        image[0] = generator.integers(0, 256, size=48)  # no two images are equal
        path = folder / f"{number}.png"
        Image.fromarray(image).save(path)
        items.append({"image": str(path), "patient": f"{folder.name}-{number}", "label": label(number)})
    return items


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return [tmp_path_factory.mktemp(name) for name in ("training", "validation", "test")]


def splits(folders, label):
    return [pictures(folder, count, label) for folder, count in zip(folders, (24, 8, 20), strict=True)]


@pytest.mark.parametrize("probe", PROBES)
def test_one_of_many_classes(probe, folders, oracles) -> None:
    result = probe(**FAST, class_names=["a", "b", "c", "d"]).run(oracles.bands(), *splits(folders, lambda n: n % 4))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result.metrics["auroc"].value == 1
    assert result.metrics["auprc/c"].value == 1
    assert result.metrics["accuracy"].value == 1
    assert len(result.extra["predictions"]["probabilities"]) == 20
    assert compare_results(result, result)["auroc"].difference == 0


@pytest.mark.parametrize("probe", PROBES)
def test_many_findings_and_unknown_labels(probe, folders, oracles) -> None:
    def label(number):
        return [int(number % 4 in (1, 2)), -1 if number % 5 == 0 else int(number % 4 == 3)]

    result = probe(**FAST, class_names=["mass", "edema"]).run(oracles.bands(), *splits(folders, label))
    assert result.metrics["auroc/mass"].value == 1
    assert result.metrics["auroc/edema"].value == 1
    assert result.metrics["auroc/edema"].n_patients == 16
    assert result.extra["predictions"]["labels"][0] == [0, None]
    assert "accuracy" not in result.metrics


def test_noise_is_at_chance_and_random_weights_stand_beside(folders, oracles) -> None:
    result = LinearProbe(resamples=200, class_names=["a", "b"]).run(oracles.noise(), *splits(folders, lambda n: n % 2))
    assert result.metrics["auroc"].low < 0.5 < result.metrics["auroc"].high
    assert list(result.baselines) == ["random initialization"]


def test_one_class_only_is_said_and_not_averaged(folders, oracles) -> None:
    data = splits(folders, lambda n: [n % 2, int(n % 4 == 1)])
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


def test_a_rare_finding_has_a_value_and_no_interval(folders, oracles) -> None:
    data = splits(folders, lambda n: [n % 2, int(n == 3)])
    metric = LinearProbe(**FAST).run(oracles.bands(), *data).metrics["auroc/1"]
    assert metric.value is not None
    assert metric.low is None
    assert metric.why == "an interval needs at least 5 positive patients, got 1"


def test_a_constant_encoder_has_no_score(folders, oracles) -> None:
    result = LinearProbe(**FAST).run(oracles.constant(), *splits(folders, lambda n: n % 2))
    assert result.collapsed is True
    assert result.metrics["auroc"].value is None
    assert "collapsed" in result.metrics["auroc"].why


def test_the_linear_fit_is_the_minimum() -> None:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    truth = (rows @ torch.tensor([[1.0], [-2.0], [0.0]], dtype=torch.float64) > 0).double()
    weight = _fit(torch.zeros(4, 1, dtype=torch.float64), rows, truth, 0.1, False)
    weight.requires_grad_(True)
    logits = rows @ weight[:-1] + weight[-1]
    loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth) + 0.05 * weight[:-1].square().sum()
    assert torch.autograd.grad(loss, weight)[0].abs().max() < 1e-5
    elsewhere = _fit(torch.full((4, 1), 2.0, dtype=torch.float64), rows, truth, 0.1, False)
    torch.testing.assert_close(elsewhere, weight.detach(), atol=1e-4, rtol=1e-3)


def test_neighbors_vote_by_similarity() -> None:
    from monai_anat.evaluation.probes.linear import Split

    training = Split(np.array([[1.0, 0], [0.8, 0.6], [0, 1.0]]), np.array([[1.0], [0.0], [np.nan]]))
    probe = NearestNeighborProbe(neighbors=2, temperature=0.5, center=False)
    scores, chosen = probe.predict(training, training, np.array([[2.0, 0]]), False)
    assert scores[0, 0] == pytest.approx(np.exp(2.0) / (np.exp(2.0) + np.exp(1.6)))
    assert chosen == {"neighbors": 2}
    assert NearestNeighborProbe(neighbors=50).predict(training, training, np.eye(2), False)[1] == {"neighbors": 3}
    alone = Split(np.array([[1.0, 0], [0, 1.0]]), np.array([[1.0], [np.nan]]))
    unknown = NearestNeighborProbe(neighbors=1, center=False).predict(alone, alone, np.array([[0.0, 1]]), False)[0]
    assert unknown[0, 0] == 1, "the share of known labels where no neighbor knows"


def test_within_one_list_the_patient_himself_is_no_neighbor(folders, oracles) -> None:
    items = pictures(folders[0], 24, lambda n: n % 4)
    result = NearestNeighborProbe(**FAST, neighbors=3).run_within(oracles.bands(), items)
    assert result.metrics["auroc"].value == result.metrics["accuracy"].value == 1
    assert result.n_images == len(result.extra["predictions"]["images"]) == 24
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    alone = [{**item, "patient": f"p{number % 4}"} for number, item in enumerate(items)]
    result = NearestNeighborProbe(**FAST, neighbors=3).run_within(oracles.bands(), alone)
    assert result.metrics["accuracy"].value == 0, "all that look alike are one patient's"


def test_within_one_list_noise_is_at_chance_and_compared_with_random_weights(folders, oracles) -> None:
    items = pictures(folders[0], 60, lambda n: [n % 2])
    probe = NearestNeighborProbe(resamples=200, neighbors=5)
    noise, bands = (probe.run_within(encoder(), items) for encoder in (oracles.noise, oracles.bands))
    assert noise.metrics["auroc"].low < 0.5 < noise.metrics["auroc"].high
    assert list(noise["comparisons"]) == ["random initialization"]
    assert compare_results(bands, noise)["auroc"].ahead == "first"
    with pytest.raises(ValueError, match="same settings"):
        compare_results(bands, probe.run(oracles.bands(), *splits(folders, lambda n: [n % 2])) | {"protocol": "k-nn"})


def test_bad_data_are_named(folders, oracles) -> None:
    data = splits(folders, lambda n: n % 2)
    with pytest.raises(DatalistError, match="test must hold at least one image for linear, got none"):
        LinearProbe(**FAST).run(oracles.bands(), data[0], data[1], [])
    with pytest.raises(DatalistError, match="one split only"):
        LinearProbe(**FAST).run(oracles.bands(), data[0], data[1], data[0])
    with pytest.raises(DatalistError, match=r"class number must be in 0..1 for \['a', 'b'\], got 2"):
        LinearProbe(**FAST, class_names=["a", "b"]).run(oracles.bands(), *splits(folders, lambda n: n % 3))
    with pytest.raises(DatalistError, match="items must hold at least two patients, got 1"):
        NearestNeighborProbe(**FAST).run_within(oracles.bands(), data[0][:1])
