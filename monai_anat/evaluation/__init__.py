"""Evaluation of encoders: protocols, metrics with confidence intervals, comparisons and report pages.

A protocol is a dataclass of settings. ``run(encoder, datalist)``, or ``run(encoder, training, validation, test)`` for
protocols on labels, measures an encoder and returns a :class:`Result`. ``encoder`` is a :class:`FrozenEncoder`, which
keeps the features that several protocols share, or any backbone. :func:`evaluate_encoder` runs several protocols and
writes JSON and a page; :func:`compare_results` compares two encoders on the same patients.

A new protocol is one file in ``evaluation/probes``: a subclass of :class:`Protocol` with a ``name`` registers itself.
"""

from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.cases import load_cases
from monai_anat.evaluation.compare import compare_evaluations, compare_results
from monai_anat.evaluation.evaluate import PROTOCOLS, evaluate_encoder
from monai_anat.evaluation.frozen_encoder import FrozenEncoder
from monai_anat.evaluation.landmark_lists import contour_datalist
from monai_anat.evaluation.metric import Difference
from monai_anat.evaluation.pictures import ReportFigure
from monai_anat.evaluation.probes.co_segmentation import CoSegmentationProbe
from monai_anat.evaluation.probes.collapse import CollapseProbe
from monai_anat.evaluation.probes.composability import ComposabilityProbe
from monai_anat.evaluation.probes.decomposability import DecomposabilityProbe
from monai_anat.evaluation.probes.few_shot import FewShotSegmentation
from monai_anat.evaluation.probes.few_shot_curve import FewShotCurve
from monai_anat.evaluation.probes.interpolation import InterpolationProbe
from monai_anat.evaluation.probes.label_fractions import LabelFractionProbe
from monai_anat.evaluation.probes.landmarks import LandmarkProbe
from monai_anat.evaluation.probes.linear import LinearProbe
from monai_anat.evaluation.probes.localizability import LocalizabilityProbe
from monai_anat.evaluation.probes.nearest_neighbors import NearestNeighborProbe
from monai_anat.evaluation.probes.robustness import RobustnessProbe
from monai_anat.evaluation.probes.scale import ScaleConsistencyProbe
from monai_anat.evaluation.probes.symmetry import SymmetryProbe
from monai_anat.evaluation.probes.training_probe import TrainingProbe
from monai_anat.evaluation.protocol import Protocol, case_pictures
from monai_anat.evaluation.reports.classifier_report import report_classifier, write_attributions
from monai_anat.evaluation.reports.comparison import compare_encoders, compare_report
from monai_anat.evaluation.reports.report import Report
from monai_anat.evaluation.reports.restorations import load_restorations, save_restorations
from monai_anat.evaluation.results import Result, load_results
from monai_anat.evaluation.ten_crop import TenCropInferer

__all__ = [
    "PROTOCOLS",
    "CoSegmentationProbe",
    "CollapseProbe",
    "ComposabilityProbe",
    "DecomposabilityProbe",
    "Difference",
    "FewShotCurve",
    "FewShotSegmentation",
    "FrozenEncoder",
    "InterpolationProbe",
    "LabelFractionProbe",
    "LandmarkProbe",
    "LinearProbe",
    "LocalizabilityProbe",
    "NearestNeighborProbe",
    "PatientBootstrap",
    "Protocol",
    "Report",
    "ReportFigure",
    "Result",
    "RobustnessProbe",
    "ScaleConsistencyProbe",
    "SymmetryProbe",
    "TenCropInferer",
    "TrainingProbe",
    "case_pictures",
    "compare_encoders",
    "compare_evaluations",
    "compare_report",
    "compare_results",
    "contour_datalist",
    "evaluate_encoder",
    "load_cases",
    "load_restorations",
    "load_results",
    "report_classifier",
    "save_restorations",
    "write_attributions",
]
