"""Cosines and centering."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.evaluation.features import CollapsedFeaturesError, centered, check_spread, cosines, unit


def test_centering_removes_the_common_component() -> None:
    rows = centered(np.array([[10.0, 1.0], [10.0, -1.0]]))
    np.testing.assert_allclose(rows, [[0, 1], [0, -1]])


def test_equal_features_are_collapsed() -> None:
    with pytest.raises(CollapsedFeaturesError, match="collapsed"):
        centered(np.ones((3, 4)))
    with pytest.raises(CollapsedFeaturesError):
        check_spread(1e-6, 1.0)
    check_spread(1e-4, 1.0)


def test_cosine_and_zero_vectors() -> None:
    assert cosines(np.array([1.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(np.sqrt(0.5))
    assert (unit(np.zeros((1, 2))) == 0).all()
