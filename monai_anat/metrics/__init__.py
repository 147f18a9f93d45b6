"""What a pre-trained encoder is measured by, as free functions of arrays and tensors."""

from .calibration import Reliability, reliability
from .classification import area_under_pr, area_under_roc
from .clustering import MOST_ASSIGNMENTS, assign_clusters, spherical_kmeans
from .collapse import effective_rank, feature_spread
from .landmarks import (
    LUNG_LANDMARKS,
    correspondence_error,
    lung_landmarks,
    match_landmarks,
    mutual_landmarks,
    read_features,
    search_landmarks,
    thorax_width,
)
from .macro_auroc import MacroAUROCMetric

__all__ = [
    "LUNG_LANDMARKS",
    "MOST_ASSIGNMENTS",
    "MacroAUROCMetric",
    "Reliability",
    "area_under_pr",
    "area_under_roc",
    "assign_clusters",
    "correspondence_error",
    "effective_rank",
    "feature_spread",
    "lung_landmarks",
    "match_landmarks",
    "mutual_landmarks",
    "read_features",
    "reliability",
    "search_landmarks",
    "spherical_kmeans",
    "thorax_width",
]
