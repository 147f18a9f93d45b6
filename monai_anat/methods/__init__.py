"""Pre-training methods: one file each, with the networks, the loss terms and the views of its paper."""

from .base import SSLMethod, TeacherStudentMethod, token_grid

__all__ = ["SSLMethod", "TeacherStudentMethod", "token_grid"]
