"""Protocols by which an encoder is judged, and the page that shows the outcome."""

from .augmentation import augment_batch
from .cases import SegmentationCases, load_cases
from .correspondence import CorrespondenceProbe
from .few_shot import FewShotSegmentation
from .paired import paired_difference
from .report import Report, ReportFigure, ReportTable

__all__ = [
    "CorrespondenceProbe",
    "FewShotSegmentation",
    "Report",
    "ReportFigure",
    "ReportTable",
    "SegmentationCases",
    "augment_batch",
    "load_cases",
    "paired_difference",
]
