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
    name -> metrics of a baseline ("random initialization", "same position", ...), and name -> metric -> encoder minus
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

from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.cases import SegmentationCases, load_cases
from monai_anat.evaluation.frozen import FrozenEncoder
from monai_anat.evaluation.landmark_lists import contour_datalist, load_landmarks
from monai_anat.evaluation.probes.classification import ClassificationProbe, LinearProbe, NearestNeighborProbe
from monai_anat.evaluation.probes.co_segmentation import CoSegmentationProbe
from monai_anat.evaluation.probes.collapse import CollapseProbe
from monai_anat.evaluation.probes.composition import ComposabilityProbe, DecomposabilityProbe
from monai_anat.evaluation.probes.few_shot import FewShotSegmentation
from monai_anat.evaluation.probes.few_shot_curve import FewShotCurve
from monai_anat.evaluation.probes.interpolation import InterpolationProbe
from monai_anat.evaluation.probes.label_fractions import LabelFractionProbe
from monai_anat.evaluation.probes.landmarks import LandmarkProbe
from monai_anat.evaluation.probes.localizability import LocalizabilityProbe
from monai_anat.evaluation.probes.robustness import RobustnessProbe
from monai_anat.evaluation.probes.scale import ScaleConsistencyProbe
from monai_anat.evaluation.probes.symmetry import SymmetryProbe
from monai_anat.evaluation.probes.training_probe import TrainingProbe
from monai_anat.evaluation.protocols import PROTOCOLS, evaluate_encoder
from monai_anat.evaluation.reports.classifier_report import report_classifier, write_attributions
from monai_anat.evaluation.reports.comparison import compare_encoders, compare_report
from monai_anat.evaluation.reports.pictures import case_pictures
from monai_anat.evaluation.reports.report import Report, ReportFigure, ReportTable
from monai_anat.evaluation.reports.restorations import load_restorations, save_restorations
from monai_anat.evaluation.results import compare_evaluations, compare_results, load_results, save_results
from monai_anat.evaluation.ten_crop import TenCropInferer

__all__ = [
    "PROTOCOLS",
    "ClassificationProbe",
    "CoSegmentationProbe",
    "CollapseProbe",
    "ComposabilityProbe",
    "DecomposabilityProbe",
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
    "Report",
    "ReportFigure",
    "ReportTable",
    "RobustnessProbe",
    "ScaleConsistencyProbe",
    "SegmentationCases",
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
    "load_landmarks",
    "load_restorations",
    "load_results",
    "report_classifier",
    "save_restorations",
    "save_results",
    "write_attributions",
]
