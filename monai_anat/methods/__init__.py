"""Pre-training methods: one file each, with the networks, the loss terms and the views of its paper."""

from .adam import AdamMethod, AdamViewsd
from .adam_v2 import AdamV2Method, AdamV2Viewsd
from .base import (
    SSLMethod,
    TeacherStudentMethod,
    check_cells,
    check_pair,
    check_view,
    mean_token,
    token_grid,
    used_terms,
    uses_batch_statistics,
)
from .lamps import LampsMethod
from .lamps_views import LampsViewsd
from .peac import PEACMethod, PEACViewsd
from .popar import Corruption, POPARMethod, POPARViewsd, corrupt, draw_corruption, order_of
from .views import MEAN, STD, RandViewsd

__all__ = [
    "MEAN",
    "STD",
    "AdamMethod",
    "AdamV2Method",
    "AdamV2Viewsd",
    "AdamViewsd",
    "Corruption",
    "LampsMethod",
    "LampsViewsd",
    "PEACMethod",
    "PEACViewsd",
    "POPARMethod",
    "POPARViewsd",
    "RandViewsd",
    "SSLMethod",
    "TeacherStudentMethod",
    "check_cells",
    "check_pair",
    "check_view",
    "corrupt",
    "draw_corruption",
    "mean_token",
    "order_of",
    "token_grid",
    "used_terms",
    "uses_batch_statistics",
]
