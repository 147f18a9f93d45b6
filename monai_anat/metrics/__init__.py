"""Metrics of encoders and classifiers, as functions of arrays and tensors."""

from monai_anat.metrics.calibration import Reliability, reliability
from monai_anat.metrics.classification import area_under_pr, area_under_roc
from monai_anat.metrics.collapse import effective_rank, feature_spread
from monai_anat.metrics.landmarks import correspondence_error, lung_landmarks, thorax_width
from monai_anat.metrics.macro_auroc import MacroAUROCMetric
from monai_anat.metrics.surface_distances import SurfaceDistancesMetric

__all__ = [
    "MacroAUROCMetric",
    "Reliability",
    "SurfaceDistancesMetric",
    "area_under_pr",
    "area_under_roc",
    "correspondence_error",
    "effective_rank",
    "feature_spread",
    "lung_landmarks",
    "reliability",
    "thorax_width",
]
