"""The training engine and its optimizers."""

from monai_anat.engines.optimizers import LARS, build_optimizers
from monai_anat.engines.trainer import SSLEvents, SSLTrainer

__all__ = [
    "LARS",
    "SSLEvents",
    "SSLTrainer",
    "build_optimizers",
]
