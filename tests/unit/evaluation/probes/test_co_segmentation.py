"""Co-segmentation probe on encoders with known results."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import DatalistError
from monai_anat.evaluation import CoSegmentationProbe

FAST = {"resamples": 50, "random_seed": None, "restarts": 3}


def test_three_gray_levels_are_three_structures(lungs, oracles, gray_bands) -> None:
    encoder = oracles.frozen(gray_bands(), level=0)
    result = CoSegmentationProbe(clusters=(3,), **FAST).run(encoder, lungs["training"])
    assert result.metrics["iou"].value > 0.8, "all but the borders"
    assert result.metrics["consistency"].value == 1
    assert result.metrics["adjusted_rand"].value > 0.75
    assert result.extra["structure_names"] == ["background", "right lung", "left lung"]
    cells = np.array(result.cases["best"]["cells"])
    assert cells.shape == (24, 24)
    assert set(np.unique(cells)) == {0, 1, 2}


def test_noise_is_below_position_and_intensity(lungs, oracles) -> None:
    result = CoSegmentationProbe(clusters=(4,), **FAST).run(oracles.noise(), lungs["training"])
    assert result.metrics["iou"].value < 0.3
    assert result.comparisons["position and intensity"]["iou"].ahead == "second"


def test_absent_structures_are_left_out_or_named(lungs, oracles, tmp_path) -> None:
    mask = np.array(Image.open(lungs["training"][0]["label"]))
    mask[mask == 2] = 0
    Image.fromarray(mask).save(tmp_path / "right.png")
    one = {**lungs["training"][0], "label": str(tmp_path / "right.png")}
    result = CoSegmentationProbe(clusters=(3,), **FAST).run(oracles.bands(), [one, *lungs["training"][1:]])
    assert result.notes == ["left lung: 1 masks do not show it and are left out (training_0.png)."]
    assert result.metrics["iou/left lung"].n_patients == 5
    with pytest.raises(DatalistError, match=r"at least one mask must show 'heart' \(class \(3,\)\), got none in 6"):
        CoSegmentationProbe(structures={"heart": (3,)}, **FAST).run(oracles.bands(), lungs["training"])
