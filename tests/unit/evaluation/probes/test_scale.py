"""Scale consistency probe on encoders with known results."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.evaluation import ScaleConsistencyProbe

FAST = {"resamples": 50, "random_seed": None}


def test_the_mean_gray_of_a_ramp_stays_when_zooming_out(ramps, oracles) -> None:
    result = ScaleConsistencyProbe(**FAST).run(oracles.gray(), ramps)
    for ratio in ("1.25", "1.5", "2"):
        assert result.metrics[f"raw_cosine/{ratio}"].value == pytest.approx(1, abs=1e-4)
        assert result.metrics[f"cosine/{ratio}"].value > 0.9
    assert result.metrics["place_told"].value > 0.6
    metrics = {name: metric.value for name, metric in result.metrics.items()}
    assert metrics["gap"] == pytest.approx(metrics["cosine"] - metrics["control"])
    assert metrics["cosine"] == pytest.approx(np.mean([metrics[f"cosine/{ratio}"] for ratio in ("1.25", "1.5", "2")]))


def test_noise_is_at_chance_and_a_constant_encoder_has_no_score(ramps, oracles) -> None:
    noise = ScaleConsistencyProbe(places=20, **FAST).run(oracles.noise(), ramps).metrics
    assert noise["gap"].value == pytest.approx(0, abs=0.1)
    assert noise["place_told"].value == pytest.approx(0.5, abs=0.1)
    constant = ScaleConsistencyProbe(**FAST).run(oracles.constant(), ramps)
    assert constant.collapsed is True
    assert constant.metrics["gap"].value is None


def test_windows_share_a_center_and_controls_lie_beside_them(ramps) -> None:
    boxes = ScaleConsistencyProbe(places=10)._boxes(ramps)  # (N, P, 7, 4)
    assert (boxes[..., :2] >= 0).all()
    assert (boxes[..., 0] + boxes[..., 2] <= 96).all()
    assert (boxes[..., 1] + boxes[..., 3] <= 120).all()
    assert boxes[0, 0, :, 2].tolist() == [24, 30, 30, 36, 36, 48, 48]
    centers = boxes[..., :2] + boxes[..., 2:] / 2
    assert np.abs(centers[:, :, 1::2] - centers[:, :, :1]).max() <= 1
    apart = np.abs(centers[:, :, 2::2] - centers[:, :, :1])
    assert np.abs(apart.max(axis=3) - 48).max() <= 1
    assert np.abs(apart.min(axis=3)).max() <= 1
    assert {bool(axis) for axis in apart[:, :, -1].argmax(axis=2).ravel()} == {False, True}


@pytest.mark.parametrize("settings", [{"places": 0}, {"ratios": (1.0,)}, {"ratios": ()}, {"window": 0.4}])
def test_windows_that_do_not_fit_are_named(settings) -> None:
    with pytest.raises(ValueError, match=r"so that two windows fit beside each other, got places="):
        ScaleConsistencyProbe(**settings)
