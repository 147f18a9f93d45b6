"""The training engine and its optimisers."""

from .optimizers import LARS, build_optimizers, clip_each_tensor
from .precision import autocast_dtype, fast_bf16
from .processes import is_main_process, join_processes, leave_processes
from .trainer import SSLEvents, SSLTrainer

__all__ = [
    "LARS",
    "SSLEvents",
    "SSLTrainer",
    "autocast_dtype",
    "build_optimizers",
    "clip_each_tensor",
    "fast_bf16",
    "is_main_process",
    "join_processes",
    "leave_processes",
]
