"""Decomposability probe on encoders and heads with known results."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from monai_anat.evaluation import DecomposabilityProbe
from monai_anat.networks.heads.part_whole_heads import DecompositionHead

FAST = {"resamples": 50, "random_seed": None}


def gray_patients(folder) -> list[dict]:
    items = []
    for number, level in enumerate((0, 77, 153, 255)):
        Image.fromarray(np.full((50, 60), level, np.uint8)).save(folder / f"{number}.png")
        items.append({"image": str(folder / f"{number}.png"), "patient": number})
    return items


def repeating_head(features: int) -> DecompositionHead:
    """Says of every part that it is the whole."""
    head = DecompositionHead(features, 4)
    with torch.no_grad():
        head[0].weight.copy_(torch.eye(features))
        head[2].weight.copy_(torch.eye(features).repeat(4, 1))
        head[0].bias.zero_()
        head[2].bias.zero_()
    return head


def test_parts_find_their_window_only_if_the_encoder_tells_patients_apart(lungs, oracles, tmp_path) -> None:
    items = [*lungs["training"], *lungs["test"]]
    noise = DecomposabilityProbe(rounds=8, **FAST).run(oracles.noise(), items)
    assert noise.extra["chance"] == 1 / 10
    assert noise.metrics["recall_at_1"].value == pytest.approx(0.1, abs=0.1)
    assert noise.metrics["control"].value == pytest.approx(0.1, abs=0.1)


def test_patients_of_one_gray_level_each_are_found(oracles, tmp_path) -> None:
    metrics = DecomposabilityProbe(**FAST).run(oracles.bands(), gray_patients(tmp_path)).metrics
    assert metrics["recall_at_1"].value == 1
    assert metrics["control"].value == 0
    assert metrics["part_cosine"].value == pytest.approx(1)


def test_a_head_that_repeats_the_whole_is_right_where_all_parts_are_equal(
    oracles, gray_bands, tmp_path, averaging_head
) -> None:
    items = gray_patients(tmp_path)
    heads = {"composition_head": averaging_head(4), "decomposition_head": repeating_head(4)}
    metrics = DecomposabilityProbe(**FAST).run(oracles.frozen(gray_bands(), heads=heads), items).metrics
    assert metrics["head_cosine"].value == pytest.approx(1, abs=1e-4)
    assert metrics["head_control"].value == pytest.approx(-1 / 3, abs=0.1), "four directions around their mean"
    assert metrics["part_identification"].value == 0.25, "all parts are alike"
    assert metrics["loop_cosine"].value == pytest.approx(1, abs=1e-4)
    assert metrics["loop_control"].value == pytest.approx(metrics["head_control"].value, abs=1e-4)
