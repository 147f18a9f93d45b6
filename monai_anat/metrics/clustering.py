"""Clustering of unit vectors, and assignment of clusters to structures."""

from __future__ import annotations

import itertools
import math
import warnings

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning

__all__ = ["MOST_ASSIGNMENTS", "assign_clusters", "spherical_kmeans"]

#: largest number of assignments that are tried
MOST_ASSIGNMENTS = 10**6

Floats = NDArray[np.float64]


def spherical_kmeans(
    features: ArrayLike, clusters: int, *, restarts: int = 10, iterations: int = 50, seed: int = 0
) -> Floats:
    """Cluster unit vectors by direction with scikit-learn's ``KMeans``.

    For unit vectors the squared Euclidean distance is ``2 - 2 cos``, so k-means groups them by cosine similarity
    (compare Dhillon and Modha, Machine Learning 2001).

    Args:
        features: (N, D) unit vectors.
        clusters: number of clusters k.
        restarts: number of k-means++ starts; the best result is kept.
        iterations: largest number of iterations per start.
        seed: random seed of the starts.

    Returns:
        (k, D) unit vectors, the directions of the cluster centers.

    Raises:
        ValueError: if there are fewer vectors than clusters.

    >>> rows = np.array([[1.0, 0], [0.995, 0.0998], [0, 1.0], [0.0998, 0.995]])
    >>> centers = spherical_kmeans(rows, 2)
    >>> sorted(np.round(centers.max(axis=1), 2).tolist())
    [1.0, 1.0]
    """
    rows = np.asarray(features, dtype=np.float64)
    if not 1 <= clusters <= len(rows):
        raise ValueError(f"clusters must be between 1 and the number of features {len(rows)}, got {clusters}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fewer distinct vectors than clusters
        fitted = KMeans(clusters, n_init=restarts, max_iter=iterations, random_state=seed).fit(rows)
    length = np.linalg.norm(fitted.cluster_centers_, axis=1, keepdims=True)
    centers: Floats = fitted.cluster_centers_ / np.maximum(length, 1e-12)
    return centers


def assign_clusters(overlap: ArrayLike) -> NDArray[np.int64]:
    """Assign every cluster to a structure so that the mean IoU of the structures is highest.

    Several clusters may belong to one structure. All assignments are tried.

    Args:
        overlap: (clusters, structures), number of pixels in common. The first structure is the background, whose IoU is
            excluded from the mean.

    Returns:
        (clusters,) structure of each cluster.

    Raises:
        ValueError: if there are more than ``MOST_ASSIGNMENTS`` assignments, which are 12 clusters for two structures
            and the background.

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
