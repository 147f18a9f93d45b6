"""Pre-training methods: one file each, with the networks, the loss terms and the views of its paper."""

from .base import SSLMethod, TeacherStudentMethod, token_grid
from .peac import PEACMethod
from .popar import POPARMethod

__all__ = ["PEACMethod", "POPARMethod", "SSLMethod", "TeacherStudentMethod", "token_grid"]
