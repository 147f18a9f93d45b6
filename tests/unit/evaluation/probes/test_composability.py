"""Composability probe on encoders and heads with known results."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.evaluation import ComposabilityProbe
from monai_anat.evaluation.windows import draw_windows

FAST = {"resamples": 50, "random_seed": None}


def test_a_linear_encoder_composes_exactly(ramps, oracles) -> None:
    result = ComposabilityProbe(windows=3, **FAST).run(oracles.gray(), ramps)
    for parts in (2, 3, 4):
        assert result.metrics[f"raw_cosine/{parts}"].value == pytest.approx(1, abs=1e-6)
        assert result.metrics[f"cosine/{parts}"].value > 0.9
        assert result.metrics[f"control/{parts}"].value < 0.5
    gap = result.metrics["gap/4"].value
    difference = result.metrics["cosine/4"].value - result.metrics["control/4"].value
    assert gap == pytest.approx(difference)
    assert result.extra["quartiles"]["raw_cosine/2"] == pytest.approx([1, 1, 1], abs=1e-6)


def test_noise_does_not_compose(lungs, oracles) -> None:
    metrics = ComposabilityProbe(windows=4, **FAST).run(oracles.noise(), lungs["training"]).metrics
    assert metrics["gap"].value == pytest.approx(0, abs=0.1)


def test_a_head_that_averages_is_the_mean_of_the_parts(ramps, oracles, gray, averaging_head) -> None:
    encoder = oracles.frozen(gray(), heads={"composition_head": averaging_head(2)})
    metrics = ComposabilityProbe(windows=3, **FAST).run(encoder, ramps).metrics
    for name in ("cosine", "control", "gap"):
        assert metrics[f"head_{name}"].value == pytest.approx(metrics[f"{name}/4"].value, abs=1e-4)
    assert "head_cosine" not in ComposabilityProbe(**FAST).run(oracles.gray(), ramps).metrics


def test_a_head_of_another_number_of_parts_is_not_used(ramps, oracles, gray, averaging_head) -> None:
    encoder = oracles.frozen(gray(), heads={"composition_head": averaging_head(2, parts=9)})
    result = ComposabilityProbe(**FAST).run(encoder, ramps)
    assert result.notes == ["The composition_head is for 9 parts, not for 4, and is not used."]
    assert "head_cosine" not in result.metrics


def test_windows_are_inside_and_divisible(ramps) -> None:
    shares = np.tile(np.linspace(0.4, 0.8, 20), (len(ramps), 1))
    each = draw_windows(ramps, shares, 0)
    assert (each[:, :, 2] == each[:1, :, 2]).all(), "of one size for images of one size"
    boxes = each.reshape(-1, 4)
    assert (boxes[:, 2] % 12 == 0).all()
    assert len(set(boxes[:, 2].tolist())) > 2
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 96).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 120).all()
