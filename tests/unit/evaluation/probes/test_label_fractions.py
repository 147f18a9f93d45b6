"""Linear probe with fractions of the labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_anat.evaluation import LabelFractionProbe, LinearProbe

FAST = {"resamples": 50, "random_seed": None}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fractions")
    splits = []
    for split, count in (("training", 20), ("validation", 4), ("test", 12)):
        items = []
        for number in range(count):
            path = folder / f"{split}{number}.png"
            image = np.full((48, 48), (0, 153)[number % 2], np.uint8)
            image[0, :number] = 77
            Image.fromarray(image).save(path)
            items.append({"image": str(path), "patient": f"{split}{number // 2}", "label": [number % 2, 0]})
        splits.append(items)
    return splits


def test_shares_take_whole_patients_and_all_labels_agree_with_the_linear_probe(data, oracles) -> None:
    probe = LabelFractionProbe(fractions=(0.1, 0.5, 1.0), draws=(0, 1, 2), **FAST)
    result = probe.run(oracles.bands(), *data)
    assert result.extra["n_labels"] == {"10%": [2, 2, 2], "50%": [10, 10, 10], "100%": [20]}
    assert list(result.metrics) == ["auroc/10%", "auroc/50%", "auroc/100%"]
    whole = LinearProbe(**FAST).run(oracles.bands(), *data).metrics["auroc"]
    assert result.metrics["auroc/100%"].value == whole.value == 1
    assert len(result.notes) == 1, "a finding that no test image has is named once"


def test_few_positives_limit_what_is_known_and_draws_of_one_kind_are_told(data, oracles) -> None:
    rare = [[{**item, "label": [int(number < 3)]} for number, item in enumerate(split)] for split in data]
    result = LabelFractionProbe(fractions=(0.1, 1.0), draws=(0, 1, 2), **FAST).run(oracles.noise(), *rare)
    for metric in result.metrics.values():
        assert (metric.low, metric.why) == (None, "an interval needs at least 5 positive patients, got 2")
    assert "of 3 draws of 10% of the labels hold one kind of image only for some class." in result.notes[-1]


def test_noise_stays_at_chance_and_constant_features_have_no_score(data, oracles) -> None:
    metric = LabelFractionProbe(fractions=(0.5,), **FAST).run(oracles.noise(), *data).metrics["auroc/50%"]
    assert metric.low < 0.5 < metric.high
    assert LabelFractionProbe(**FAST).run(oracles.constant(), *data).collapsed is True


def test_shares_below_one_percent_keep_names_of_their_own(data, oracles) -> None:
    result = LabelFractionProbe(fractions=(0.001, 0.004, 0.07), draws=(0,), **FAST).run(oracles.bands(), *data)
    assert list(result.extra["n_labels"]) == ["0.1%", "0.4%", "7%"]
