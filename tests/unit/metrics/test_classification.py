"""Weighted areas agree with scikit-learn, also where rows are repeated and scores are tied."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from monai_anat.metrics.classification import area_under_pr, area_under_roc


@pytest.mark.parametrize(
    ("area", "reference"), [(area_under_roc, roc_auc_score), (area_under_pr, average_precision_score)]
)
def test_agrees_with_scikit_learn_for_every_set_of_weights(area, reference) -> None:
    generator = np.random.default_rng(0)
    labels = np.r_[0, 1, generator.integers(0, 2, size=38)]
    scores = generator.integers(0, 12, size=40) / 12  # with ties
    weights = generator.integers(1, 4, size=(20, 40))
    found = area(labels, scores, weights)
    for number, weight in enumerate(weights):
        assert found[number] == pytest.approx(reference(np.repeat(labels, weight), np.repeat(scores, weight)))
    assert area(labels, scores)[0] == pytest.approx(reference(labels, scores))


def test_one_class_has_no_area() -> None:
    weights = [[1, 1, 1], [0, 1, 1], [1, 0, 0]]
    for area in (area_under_roc, area_under_pr):
        assert np.isnan(area([1, 0, 0], [0.2, 0.1, 0.3], weights)).tolist() == [False, True, True]


def test_unknown_labels_are_named() -> None:
    with pytest.raises(ValueError, match=r"labels must be .* with values 0 and 1"):
        area_under_roc([0, -1], [0.1, 0.2])
