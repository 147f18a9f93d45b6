"""Handlers for :class:`monai_anat.engines.SSLTrainer`: what happens around the steps of training."""

from monai_anat.handlers.best_model import BestModel
from monai_anat.handlers.bundle_command import check_bundle_arguments, check_choice
from monai_anat.handlers.checkpoint import Checkpointer
from monai_anat.handlers.encoder_probe import EncoderProbe
from monai_anat.handlers.guard import NonFiniteGuard
from monai_anat.handlers.manifest import RunManifest
from monai_anat.handlers.probes import CollapseMonitor
from monai_anat.handlers.teacher_ema import TeacherEMA
from monai_anat.handlers.training_log import TrainingLog

__all__ = [
    "BestModel",
    "Checkpointer",
    "CollapseMonitor",
    "EncoderProbe",
    "NonFiniteGuard",
    "RunManifest",
    "TeacherEMA",
    "TrainingLog",
    "check_bundle_arguments",
    "check_choice",
]
