"""What a pre-trained encoder is measured by, as free functions of arrays and tensors."""

from .classification import area_under_pr, area_under_roc
from .clustering import assign_clusters, spherical_kmeans
from .collapse import effective_rank, feature_spread
from .landmarks import (
    LUNG_LANDMARKS,
    correspondence_error,
    find_features,
    lung_landmarks,
    match_landmarks,
    read_features,
    thorax_width,
)

__all__ = [
    "LUNG_LANDMARKS",
    "area_under_pr",
    "area_under_roc",
    "assign_clusters",
    "correspondence_error",
    "effective_rank",
    "feature_spread",
    "find_features",
    "lung_landmarks",
    "match_landmarks",
    "read_features",
    "spherical_kmeans",
    "thorax_width",
]
