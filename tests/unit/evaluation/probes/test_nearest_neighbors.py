"""Nearest-neighbor probe."""

from __future__ import annotations

import json

import numpy as np
import pytest

from monai_anat.evaluation import NearestNeighborProbe, compare_results
from monai_anat.evaluation.class_protocol import Split
from monai_anat.evaluation.results import Result

FAST = {"resamples": 50, "random_seed": None}


def test_neighbors_vote_by_similarity() -> None:
    training = Split(np.array([[1.0, 0], [0.8, 0.6], [0, 1.0]]), np.array([[1.0], [0.0], [np.nan]]))
    probe = NearestNeighborProbe(neighbors=2, temperature=0.5, center=False)
    scores, chosen = probe.predict(training, training, np.array([[2.0, 0]]), False)
    assert scores[0, 0] == pytest.approx(np.exp(2.0) / (np.exp(2.0) + np.exp(1.6)))
    assert chosen == {"neighbors": 2}
    assert NearestNeighborProbe(neighbors=50).predict(training, training, np.eye(2), False)[1] == {"neighbors": 3}
    alone = Split(np.array([[1.0, 0], [0, 1.0]]), np.array([[1.0], [np.nan]]))
    unknown = NearestNeighborProbe(neighbors=1, center=False).predict(alone, alone, np.array([[0.0, 1]]), False)[0]
    assert unknown[0, 0] == 1, "the share of known labels where no neighbor knows"


def test_within_one_list_the_patient_himself_is_no_neighbor(pictures, oracles) -> None:
    items = pictures("training", 24, lambda n: n % 4)
    result = NearestNeighborProbe(**FAST, neighbors=3).run_within(oracles.bands(), items)
    assert result.metrics["auroc"].value == result.metrics["accuracy"].value == 1
    assert result.n_images == len(result.extra["predictions"]["images"]) == 24
    assert Result.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result
    alone = [{**item, "patient": f"p{number % 4}"} for number, item in enumerate(items)]
    result = NearestNeighborProbe(**FAST, neighbors=3).run_within(oracles.bands(), alone)
    assert result.metrics["accuracy"].value == 0, "all that look alike are one patient's"


def test_within_one_list_noise_is_at_chance_and_compared_with_random_weights(pictures, splits, oracles) -> None:
    items = pictures("training", 60, lambda n: [n % 2])
    probe = NearestNeighborProbe(resamples=200, neighbors=5)
    noise, bands = (probe.run_within(encoder(), items) for encoder in (oracles.noise, oracles.bands))
    assert noise.metrics["auroc"].low < 0.5 < noise.metrics["auroc"].high
    assert list(noise.comparisons) == ["random initialization"]
    assert compare_results(bands, noise)["auroc"].ahead == "first"
    with pytest.raises(ValueError, match="same settings"):
        compare_results(bands, probe.run(oracles.bands(), *splits(lambda n: [n % 2])))
