"""Collapse probe: ranks and the collapse flag."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.evaluation import CollapseProbe
from monai_anat.evaluation.probes.collapse import _effective_rank
from monai_anat.metrics import effective_rank, feature_spread

FAST = {"resamples": 100, "random_seed": None}


def test_values_are_those_of_the_metrics(lungs, oracles) -> None:
    items = [*lungs["training"], *lungs["test"]]
    encoder = oracles.noise()
    result = CollapseProbe(**FAST).run(encoder, items)
    embeddings = torch.as_tensor(encoder.embeddings(items))
    assert result.metrics["effective_rank"].value == pytest.approx(effective_rank(embeddings), rel=1e-5)
    assert result.metrics["feature_spread"].value == pytest.approx(feature_spread(embeddings), rel=1e-5)
    assert result.metrics["share_of_rank"].value == pytest.approx(effective_rank(embeddings) / 9, rel=1e-5)
    assert result.collapsed is False


def test_repeated_rows_weigh_but_add_no_direction() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 20))
    weights = np.array([2.0, 0, 1, 1, 3, 1])
    repeated = np.repeat(rows, weights.astype(int), axis=0)
    found = _effective_rank(rows @ rows.T, weights, 1e-9)
    assert found == pytest.approx(effective_rank(torch.as_tensor(repeated)), rel=1e-6)


def test_the_interval_contains_the_value(lungs, oracles) -> None:
    metric = CollapseProbe(**FAST).run(oracles.noise(), lungs["training"]).metrics["effective_rank"]
    assert metric.low < metric.value < metric.high, "although every resample has fewer images"


def test_one_direction_is_collapse(ramps, oracles) -> None:
    result = CollapseProbe(**FAST).run(oracles.gray(), ramps)
    assert result.metrics["effective_rank"].value == pytest.approx(1, abs=1e-6)
    assert result.collapsed is True
    assert result.notes == ["Collapsed: 6 embeddings have effective rank 1.00, below 2."]


def test_few_images_are_no_collapse(ramps, oracles) -> None:
    """Two images differ in one direction, whatever the encoder."""
    for count in (2, 3):
        result = CollapseProbe(**FAST).run(oracles.noise(), ramps[:count])
        assert result.collapsed is False
        assert result.notes == [f"{count} images have a rank of {count - 1} at most, too few to detect a collapse."]
        assert CollapseProbe(**FAST).run(oracles.constant(), ramps[:count]).collapsed is True
