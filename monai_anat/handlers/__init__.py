"""Handlers for :class:`monai_anat.engines.SSLTrainer`: what happens around the steps of training."""

from .bundle_command import begin_command, check_choice, command_line_config, root_cause
from .checkpoint import Checkpointer, save_atomically
from .encoder_probe import EncoderProbe
from .guard import NonFiniteGuard
from .manifest import RunManifest, data_fingerprint
from .probes import CollapseMonitor
from .teacher_ema import TeacherEMA, move_teacher
from .training_log import TrainingLog

__all__ = [
    "Checkpointer",
    "CollapseMonitor",
    "EncoderProbe",
    "NonFiniteGuard",
    "RunManifest",
    "TeacherEMA",
    "TrainingLog",
    "begin_command",
    "check_choice",
    "command_line_config",
    "data_fingerprint",
    "move_teacher",
    "root_cause",
    "save_atomically",
]
