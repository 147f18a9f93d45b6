"""What a pre-trained encoder is measured by, as free functions of tensors."""

from .collapse import effective_rank, feature_spread
from .landmarks import LUNG_LANDMARKS, correspondence_error, lung_landmarks, match_landmarks, thorax_width

__all__ = [
    "LUNG_LANDMARKS",
    "correspondence_error",
    "effective_rank",
    "feature_spread",
    "lung_landmarks",
    "match_landmarks",
    "thorax_width",
]
