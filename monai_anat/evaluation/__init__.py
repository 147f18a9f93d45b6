"""Protocols by which an encoder is judged, and the page that shows the outcome.

A protocol is an object: its arguments are the settings, ``run(encoder, datalist)`` (with labels: ``run(encoder,
training, validation, test)``) measures an encoder and returns a dict of JSON values. ``encoder`` is a
:class:`FrozenEncoder`, which keeps the features that several protocols share, or any backbone. All protocols of this
list give the same form of result:

``protocol``, ``settings``
    name, and arguments; ``settings["encoder"]`` is how the encoder saw images.
``n_images``, ``n_patients``, ``patients``
    what was measured on; ``patients`` is a fingerprint of patients and resamples.
``metrics``
    name -> metric. Names have parts, the kind first: ``"error"``, ``"error/right apex"``, ``"pck/0.1"``. A metric is
    ``value``, ``low`` and ``high`` (interval at ``confidence``, by a bootstrap over ``n_patients``), ``unit``,
    ``better`` ("higher", "lower", or None where neither is better) and ``replicates`` (the value in each resample).
    What is undefined is None, and ``why`` says in a sentence why.
``baselines``, ``comparisons``
    name -> metrics of a baseline ("random initialisation", "same position", ...), and name -> metric -> encoder minus
    baseline, in the form of :func:`compare_results`.
``cases``
    "best", "median", "worst" -> ``score`` and what is needed to draw the case: files, points, masks.
``notes``
    sentences on what was left out, and why.
``collapsed``
    True where all features are equal: then there is no score.

Further entries belong to one protocol (``predictions``, ``picture``, ``landmark_names``, ``curves``, ...). Two results
are compared by :func:`compare_results`, which needs nothing but the two dicts. :class:`FewShotSegmentation` compares
arms at one number of labels, draw by draw, and has a form of its own; :class:`FewShotCurve` repeats it and gives the
result in this one.
"""

from .augmentation import augment_batch
from .bootstrap import PatientBootstrap, undefined_metric
from .cases import SegmentationCases, load_cases
from .classification import ClassificationProbe, LinearProbe, NearestNeighbourProbe
from .classifier_report import report_classifier, write_attributions
from .co_segmentation import CoSegmentationProbe
from .collapse import CollapseProbe
from .comparison import compare_encoders, compare_report, write_comparison
from .composition import ComposabilityProbe, DecomposabilityProbe
from .demo import demo_report, few_shot_table
from .few_shot import FewShotSegmentation
from .few_shot_curve import FewShotCurve
from .frozen import CollapsedFeaturesError, FrozenEncoder
from .frozen_protocol import FrozenProtocol
from .interpolation import InterpolationProbe
from .label_fractions import LabelFractionProbe
from .landmark_lists import LandmarkSet, contour_datalist, load_landmarks, read_contour
from .landmarks import LandmarkProbe
from .localizability import LocalizabilityProbe
from .paired import paired_difference
from .pictures import case_pictures
from .protocols import PROTOCOLS, evaluate_encoder
from .report import Report, ReportFigure, ReportTable
from .restorations import load_restorations, save_restorations
from .results import compare_evaluations, compare_results, load_results, save_results
from .robustness import RobustnessProbe
from .scale import ScaleConsistencyProbe
from .symmetry import SymmetryProbe
from .ten_crop import TenCropInferer, average_crops
from .training_probe import TrainingProbe

__all__ = [
    "PROTOCOLS",
    "ClassificationProbe",
    "CoSegmentationProbe",
    "CollapseProbe",
    "CollapsedFeaturesError",
    "ComposabilityProbe",
    "DecomposabilityProbe",
    "FewShotCurve",
    "FewShotSegmentation",
    "FrozenEncoder",
    "FrozenProtocol",
    "InterpolationProbe",
    "LabelFractionProbe",
    "LandmarkProbe",
    "LandmarkSet",
    "LinearProbe",
    "LocalizabilityProbe",
    "NearestNeighbourProbe",
    "PatientBootstrap",
    "Report",
    "ReportFigure",
    "ReportTable",
    "RobustnessProbe",
    "ScaleConsistencyProbe",
    "SegmentationCases",
    "SymmetryProbe",
    "TenCropInferer",
    "TrainingProbe",
    "augment_batch",
    "average_crops",
    "case_pictures",
    "compare_encoders",
    "compare_evaluations",
    "compare_report",
    "compare_results",
    "contour_datalist",
    "demo_report",
    "evaluate_encoder",
    "few_shot_table",
    "load_cases",
    "load_landmarks",
    "load_restorations",
    "load_results",
    "paired_difference",
    "read_contour",
    "report_classifier",
    "save_restorations",
    "save_results",
    "undefined_metric",
    "write_attributions",
    "write_comparison",
]
