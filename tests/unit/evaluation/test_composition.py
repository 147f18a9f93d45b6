"""Wholes and parts of linear, blind and constant encoders."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.evaluation import ComposabilityProbe, DecomposabilityProbe
from monai_anat.evaluation.composition import draw_windows, other_patient

FAST = {"resamples": 50, "random_seed": None}


def test_a_linear_encoder_composes_exactly(ramps, oracles) -> None:
    result = ComposabilityProbe(windows=3, **FAST).run(oracles.grey(), ramps)
    for parts in (2, 3, 4):
        assert result["metrics"][f"raw_cosine/{parts}"]["value"] == pytest.approx(1, abs=1e-6)
        assert result["metrics"][f"cosine/{parts}"]["value"] > 0.9
        assert result["metrics"][f"control/{parts}"]["value"] < 0.5
    gap = result["metrics"]["gap/4"]["value"]
    difference = result["metrics"]["cosine/4"]["value"] - result["metrics"]["control/4"]["value"]
    assert gap == pytest.approx(difference)
    assert result["quartiles"]["raw_cosine/2"] == pytest.approx([1, 1, 1], abs=1e-6)


def test_noise_does_not_compose(lungs, oracles) -> None:
    metrics = ComposabilityProbe(windows=4, **FAST).run(oracles.noise(), lungs["training"])["metrics"]
    assert metrics["gap"]["value"] == pytest.approx(0, abs=0.1)


def test_parts_find_their_window_only_if_the_encoder_tells_patients_apart(lungs, oracles, tmp_path) -> None:
    items = [*lungs["training"], *lungs["test"]]
    noise = DecomposabilityProbe(rounds=8, **FAST).run(oracles.noise(), items)
    assert noise["chance"] == 1 / 10
    assert noise["metrics"]["recall_at_1"]["value"] == pytest.approx(0.1, abs=0.1)
    assert noise["metrics"]["control"]["value"] == pytest.approx(0.1, abs=0.1)


def test_patients_of_one_grey_level_each_are_found(oracles, tmp_path) -> None:
    from PIL import Image

    items = []
    for number, level in enumerate((0, 77, 153, 255)):
        Image.fromarray(np.full((50, 60), level, np.uint8)).save(tmp_path / f"{number}.png")
        items.append({"image": str(tmp_path / f"{number}.png"), "patient": number})
    metrics = DecomposabilityProbe(**FAST).run(oracles.bands(), items)["metrics"]
    assert metrics["recall_at_1"]["value"] == 1
    assert metrics["control"]["value"] == 0
    assert metrics["part_cosine"]["value"] == pytest.approx(1)


def test_windows_are_inside_and_divisible(ramps) -> None:
    boxes = draw_windows(ramps, 20, (0.4, 0.8), 0).reshape(-1, 4)
    assert (boxes[:, 2] % 12 == 0).all()
    assert len(set(boxes[:, 2].tolist())) > 2
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 96).all()
    assert (boxes[:, 1] + boxes[:, 3] <= 120).all()


def test_partners_are_other_patients() -> None:
    patients = np.array([0, 0, 1, 2, 2, 2])
    partner = other_patient(patients, 3)
    assert (patients[partner] != patients).all()
