"""Trainers that resume exactly, and optimizers."""

from monai_anat.engines.finetuning import FineTuneTrainer
from monai_anat.engines.optimizers import LARS, build_optimizers
from monai_anat.engines.trainer import SSLEvents, SSLTrainer

__all__ = [
    "LARS",
    "FineTuneTrainer",
    "SSLEvents",
    "SSLTrainer",
    "build_optimizers",
]
