"""Clusters of directions, and how well clusters match structures."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MOST_ASSIGNMENTS", "assign_clusters", "spherical_kmeans"]

#: ways to give clusters to structures that are tried at most
MOST_ASSIGNMENTS = 10**6

Floats = NDArray[np.float64]


def spherical_kmeans(
    features: ArrayLike, clusters: int, *, restarts: int = 10, iterations: int = 50, seed: int = 0
) -> Floats:
    """k-means of unit vectors by cosine (Dhillon and Modha, Machine Learning 2001).

    Args:
        features: (N, D) unit vectors.
        clusters: k.
        restarts: from other starts (k-means++); the one with the highest mean cosine is kept.
        iterations: at most so many per start.
        seed: of the starts.

    Returns:
        (k, D) unit vectors, the centers.

    Raises:
        ValueError: fewer vectors than clusters.

    >>> rows = np.array([[1.0, 0], [0.995, 0.0998], [0, 1.0], [0.0998, 0.995]])
    >>> centers = spherical_kmeans(rows, 2)
    >>> sorted(np.round(centers.max(axis=1), 2).tolist())
    [1.0, 1.0]
    """
    rows = np.asarray(features, dtype=np.float64)
    if not 1 <= clusters <= len(rows):
        raise ValueError(f"clusters must be between 1 and the number of features {len(rows)}, got {clusters}")
    generator = np.random.default_rng(seed)
    best, kept = -np.inf, np.empty(0)
    for _ in range(restarts):
        centers = _start(rows, clusters, generator)
        previous = -np.inf
        for _ in range(iterations):
            similarity = rows @ centers.T
            label = similarity.argmax(axis=1)
            score = float(similarity.max(axis=1).mean())
            if score <= previous + 1e-9:
                break
            previous = score
            sums = np.eye(clusters)[label].T @ rows
            length = np.linalg.norm(sums, axis=1, keepdims=True)
            centers = np.where(length > 1e-12, sums / np.maximum(length, 1e-12), centers)  # an empty cluster stays
        if previous > best:
            best, kept = previous, centers
    return kept


def assign_clusters(overlap: ArrayLike) -> NDArray[np.int64]:
    """Give every cluster to a structure so that the mean IoU of the structures is highest; many clusters may share one.

    Args:
        overlap: (clusters, structures) pixels in common; the first structure is the background, whose IoU is not
            counted. Every assignment is tried, so there may be no more than ``MOST_ASSIGNMENTS``: 12 clusters for two
            structures and the background.

    Returns:
        (clusters,) structure of each cluster.

    Raises:
        ValueError: for more.

    >>> assign_clusters([[90, 5, 0], [10, 50, 0], [5, 0, 40]]).tolist()
    [0, 1, 2]
    """
    counts = np.asarray(overlap, dtype=np.float64)
    clusters, structures = counts.shape
    if structures**clusters > MOST_ASSIGNMENTS:
        most = int(math.log(MOST_ASSIGNMENTS, structures))
        raise ValueError(f"clusters must be at most {most} for {structures - 1} structures, got {clusters}")
    tried = np.array(list(itertools.product(range(structures), repeat=clusters)))  # (A, clusters)
    truth, size = counts.sum(axis=0), counts.sum(axis=1)
    score = np.zeros(len(tried))
    for structure in range(1, structures):
        chosen = tried == structure
        common = chosen @ counts[:, structure]
        score += common / np.maximum(truth[structure] + chosen @ size - common, 1e-12)
    best: NDArray[np.int64] = tried[score.argmax()]
    return best


def _start(rows: Floats, clusters: int, generator: np.random.Generator) -> Floats:
    """k-means++: each further center is drawn by its distance from those before it."""
    chosen = [int(generator.integers(len(rows)))]
    distance = np.maximum(1 - rows @ rows[chosen[0]], 0)
    while len(chosen) < clusters:
        total = distance.sum()
        share = distance / total if total > 1e-12 else np.full(len(rows), 1 / len(rows))
        chosen.append(int(generator.choice(len(rows), p=share)))
        distance = np.minimum(distance, np.maximum(1 - rows @ rows[chosen[-1]], 0))
    return rows[chosen]
