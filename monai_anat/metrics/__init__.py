"""What a pre-trained encoder is measured by, as free functions of arrays and tensors."""

from .calibration import Reliability, reliability
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
from .macro_auroc import MacroAUROCMetric

__all__ = [
    "LUNG_LANDMARKS",
    "MacroAUROCMetric",
    "Reliability",
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
    "reliability",
    "spherical_kmeans",
    "thorax_width",
]
