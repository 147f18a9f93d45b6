"""Clusters are found, and given to the structures that they cover."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from monai_anat.metrics.clustering import assign_clusters, spherical_kmeans


def test_three_directions_are_three_clusters() -> None:
    generator = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], 50)
    rows = np.eye(8)[truth] + generator.normal(0, 0.1, size=(150, 8))
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    centers = spherical_kmeans(rows, 3, seed=4)
    np.testing.assert_allclose(np.linalg.norm(centers, axis=1), 1)
    label = (rows @ centers.T).argmax(axis=1)
    assert {tuple(set(label[truth == number])) for number in range(3)} == {(0,), (1,), (2,)}
    np.testing.assert_array_equal(centers, spherical_kmeans(rows, 3, seed=4))


def test_equal_rows_and_too_many_clusters() -> None:
    assert np.isfinite(spherical_kmeans(np.ones((5, 1)), 2)).all()
    with pytest.raises(ValueError, match="clusters must be between 1 and the number of features 2, got 3"):
        spherical_kmeans(np.eye(2), 3)


def test_the_assignment_is_the_best_of_all() -> None:
    counts = np.random.default_rng(1).integers(0, 50, size=(4, 3)).astype(float)

    def mean_iou(structure) -> float:
        ious = []
        for number in (1, 2):
            chosen = np.array(structure) == number
            common = counts[chosen, number].sum()
            ious.append(common / (counts[:, number].sum() + counts[chosen].sum() - common))
        return float(np.mean(ious))

    best = max(mean_iou(structure) for structure in itertools.product(range(3), repeat=4))
    assert mean_iou(assign_clusters(counts)) == pytest.approx(best)
    with pytest.raises(ValueError, match="clusters must be at most 12 for 2 structures, got 13"):
        assign_clusters(np.ones((13, 3)))
