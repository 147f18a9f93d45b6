"""Pre-training methods: one file each, with the networks, the loss terms and the views of its paper."""

from .base import SSLMethod, TeacherStudentMethod, check_cells, check_view, token_grid, used_terms
from .peac import PEACMethod, PEACViewsd
from .popar import Corruption, POPARMethod, POPARViewsd, corrupt, draw_corruption, order_of
from .views import MEAN, STD, RandViewsd

__all__ = [
    "MEAN",
    "STD",
    "Corruption",
    "PEACMethod",
    "PEACViewsd",
    "POPARMethod",
    "POPARViewsd",
    "RandViewsd",
    "SSLMethod",
    "TeacherStudentMethod",
    "check_cells",
    "check_view",
    "corrupt",
    "draw_corruption",
    "order_of",
    "token_grid",
    "used_terms",
]
