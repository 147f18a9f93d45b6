"""Protocols by which an encoder is judged, and the page that shows the outcome."""

from .augmentation import augment_batch
from .cases import SegmentationCases, load_cases
from .correspondence import CorrespondenceProbe
from .demo import demo_report, few_shot_table
from .few_shot import FewShotSegmentation
from .paired import paired_difference
from .protocols import evaluate_encoder
from .report import Report, ReportFigure, ReportTable
from .restorations import load_restorations, save_restorations

__all__ = [
    "CorrespondenceProbe",
    "FewShotSegmentation",
    "Report",
    "ReportFigure",
    "ReportTable",
    "SegmentationCases",
    "augment_batch",
    "demo_report",
    "evaluate_encoder",
    "few_shot_table",
    "load_cases",
    "load_restorations",
    "paired_difference",
    "save_restorations",
]
