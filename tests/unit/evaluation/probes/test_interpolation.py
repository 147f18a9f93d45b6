"""Interpolation probe: exact for a linear encoder on linear images."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.evaluation import InterpolationProbe

FAST = {"resamples": 50, "random_seed": None}


def test_linear_pictures_are_predicted(ramps, oracles) -> None:
    metrics = InterpolationProbe(**FAST).run(oracles.gray(), ramps).metrics
    # gray levels are whole numbers and windows start at whole pixels
    assert metrics["interpolation_error"].value < 0.03
    assert metrics["extrapolation_error"].value < 0.06


def test_coordinates_are_predicted_exactly(ramps, oracles, monkeypatch) -> None:
    encoder = oracles.gray()
    monkeypatch.setattr(encoder, "window_embeddings", lambda items, boxes: boxes[..., :2] + boxes[..., 2:] / 2)
    metrics = InterpolationProbe(**FAST).run(encoder, ramps).metrics
    for name in ("interpolation", "extrapolation"):
        assert metrics[f"{name}_error"].value < 0.015, "windows start at whole pixels"
        assert metrics[f"{name}_cosine"].value > 0.999
    assert metrics["interpolation_rank_1"].value > 0.9


def test_the_misprinted_formula_fails(ramps, oracles, monkeypatch) -> None:
    """Swap the ends: at t = .25 the prediction is that for t = .75, half the way from A to B off."""
    probe = InterpolationProbe(inside=(0.25,), **FAST)
    encoder = oracles.gray()
    windows = encoder.window_embeddings

    def swapped(items, boxes):
        found = windows(items, boxes)
        count = found.shape[1] // 2
        place = probe._boxes(items)[1]
        ends = [place.index(0.0), place.index(1.0)]
        for line in (0, count):
            found[:, [line + ends[0], line + ends[1]]] = found[:, [line + ends[1], line + ends[0]]]
        return found

    monkeypatch.setattr(encoder, "window_embeddings", swapped)
    assert probe.run(encoder, ramps).metrics["interpolation_error"].value == pytest.approx(0.5, abs=0.03)


def test_noise_is_no_better_than_its_ends(lungs, oracles) -> None:
    metrics = InterpolationProbe(**FAST).run(oracles.noise(), [*lungs["training"], *lungs["test"]]).metrics
    assert metrics["interpolation_cosine"].value == pytest.approx(0, abs=0.15)
    assert metrics["interpolation_control"].value == pytest.approx(0, abs=0.15)
    assert metrics["extrapolation_control"].value == pytest.approx(0, abs=0.15)


def test_windows_lie_on_the_lines(ramps) -> None:
    boxes, shares = InterpolationProbe()._boxes(ramps[:1])
    centers = boxes[0, :, :2] + (boxes[0, :, 2:] - 1) / 2
    across, down = np.split(centers, 2)
    assert np.ptp(across[:, 0]) == np.ptp(down[:, 1]) == 0
    assert across[shares.index(0.0), 1] == pytest.approx(0.25 * 120, abs=1)
    assert across[shares.index(1.0), 1] == pytest.approx(0.75 * 120, abs=1)
    assert 0.625 in shares, "extrapolation by .25 beyond half way"


def test_windows_that_leave_the_line_are_refused() -> None:
    """A window that crosses the border is shifted inside, so that its place is no longer the one asked for."""
    with pytest.raises(ValueError, match=r"line must keep the windows .* got line=\(0.25, 0.75\) and window=0.9"):
        InterpolationProbe(window=0.9)
    with pytest.raises(ValueError, match=r"inside and outside must be shares in \(0, 1\], got inside=\(1.5,\)"):
        InterpolationProbe(inside=(1.5,))
