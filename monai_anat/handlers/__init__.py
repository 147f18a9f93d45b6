"""Training handlers: checkpoints, logs, monitors, teacher averages."""

from monai_anat.handlers.best_model import BestModelSaver
from monai_anat.handlers.bundle_command import check_bundle_arguments, check_choice
from monai_anat.handlers.checkpoint import Checkpointer
from monai_anat.handlers.collapse_monitor import CollapseMonitor
from monai_anat.handlers.encoder_probe import EncoderProbe
from monai_anat.handlers.epoch_log import EpochLog
from monai_anat.handlers.guard import NonFiniteGuard
from monai_anat.handlers.manifest import RunManifest
from monai_anat.handlers.teacher_ema import TeacherEMA
from monai_anat.handlers.tracking import MLflowTracker
from monai_anat.handlers.training_log import TrainingLog

__all__ = [
    "BestModelSaver",
    "Checkpointer",
    "CollapseMonitor",
    "EncoderProbe",
    "EpochLog",
    "MLflowTracker",
    "NonFiniteGuard",
    "RunManifest",
    "TeacherEMA",
    "TrainingLog",
    "check_bundle_arguments",
    "check_choice",
]
