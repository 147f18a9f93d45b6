"""Metrics of encoders and classifiers, as functions of arrays and tensors."""

from monai_anat.metrics.collapse import effective_rank, feature_spread
from monai_anat.metrics.landmarks import lung_landmarks, thorax_width
from monai_anat.metrics.macro_auroc import MacroAUROCMetric
from monai_anat.metrics.surface_distances import SurfaceDistancesMetric

__all__ = [
    "MacroAUROCMetric",
    "SurfaceDistancesMetric",
    "effective_rank",
    "feature_spread",
    "lung_landmarks",
    "thorax_width",
]
