"""Features that know the place find it; constant ones do not."""

from __future__ import annotations

import math

import pytest
import torch

from monai_anat.evaluation import CorrespondenceProbe, load_cases
from monai_anat.networks import ViTBackbone

SETTINGS = {"image_size": 48, "mean": 0.0, "std": 1.0, "center": False}


def test_an_encoder_that_follows_the_anatomy_beats_the_same_position(lungs, coordinates) -> None:
    probe = CorrespondenceProbe(**SETTINGS, random_seeds=())
    result = probe.run(coordinates(), lungs["test"])
    cell = 4 / 48
    assert result["error"] < cell, "within a cell"
    assert result["error_same_position"] > 1.5 * result["error"]
    assert result["pairs"] == 4 * 3
    assert "error_random" not in result


def test_identical_pictures_match_exactly_where_the_position_does(lungs, coordinates) -> None:
    twins = [{**lungs["test"][0], "patient": name} for name in ("a", "b")]
    result = CorrespondenceProbe(**SETTINGS, random_seeds=()).run(coordinates(), twins)
    assert result["error_same_position"] == 0
    assert result["error"] < 4 / 48


def test_thorax_widths_scale_the_errors(lungs, coordinates) -> None:
    result = CorrespondenceProbe(**SETTINGS, random_seeds=()).run(coordinates(), lungs["test"])
    assert result["error_thorax"] / result["error"] == pytest.approx(48 / 27, rel=0.01)
    names = result["by_landmark"]
    assert names["right apex"]["error"] >= 0
    mean = sum(value["error_same_position"] for value in names.values()) / len(names)
    assert mean == pytest.approx(result["error_same_position"], rel=1e-5)


def test_random_weights_are_drawn_from_their_seed(lungs) -> None:
    encoder = ViTBackbone(image_size=48, patch_size=8, embed_dim=8, depth=4, num_heads=2).train()
    probe = CorrespondenceProbe(**SETTINGS)
    first, second = (probe.run(encoder, lungs["test"][:2]) for _ in range(2))
    assert first == second
    assert encoder.training
    assert first["error_random"] > 0
    other = CorrespondenceProbe(**SETTINGS, random_seeds=(9,)).run(encoder, lungs["test"][:2])
    assert other["error_random"] != first["error_random"]
    assert other["error"] == first["error"]


def test_one_pair_for_a_picture(lungs, coordinates) -> None:
    cases = load_cases(lungs["test"], 48)
    match = CorrespondenceProbe(**SETTINGS).match(coordinates(), cases, 0, 1)
    assert all(points.shape == (6, 2) for points in match.values())
    assert torch.linalg.vector_norm(match["found"] - match["truth"], dim=1).max() < 8


def test_images_of_one_patient_are_no_pair(lungs, coordinates) -> None:
    items = [{**item, "patient": name} for item, name in zip(lungs["test"][:3], "aab", strict=True)]
    assert CorrespondenceProbe(**SETTINGS, random_seeds=()).run(coordinates(), items)["pairs"] == 4


def test_missing_lungs_are_left_out_and_one_patient_is_named(lungs, coordinates) -> None:
    with pytest.raises(ValueError, match="two patients with a common landmark, got 1 images of 1 patients"):
        CorrespondenceProbe(**SETTINGS).run(coordinates(), lungs["test"][:1])
    cases = load_cases(lungs["test"], 48)
    cases.labels[cases.labels == 2] = 0
    result = CorrespondenceProbe(**SETTINGS, random_seeds=()).measure(coordinates(), cases)
    assert math.isnan(result["by_landmark"]["left apex"]["error"])
    assert math.isfinite(result["error"])
    assert math.isnan(result["error_thorax"])
