"""Base class of the parts that methods are composed of."""

from __future__ import annotations

import copy
from typing import Self, TypeVar

from torch import nn

__all__ = ["MethodPart", "frozen_copy"]

Network = TypeVar("Network", bound=nn.Module)


class MethodPart(nn.Module):
    """Heads and a loss that several methods use, as one module inside a method.

    A part holds no backbone. It may hold teachers of its heads:
    :meth:`~monai_anat.methods.TeacherStudentMethod.student_teacher_pairs` of the method includes those of its parts.
    ``SSLMethod.compile_networks`` compiles the networks inside a part and leaves its loss alone.
    """

    def student_teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Pair each student head with its teacher; no pairs by default."""
        return []

    def train(self, mode: bool = True) -> Self:
        """Switch the student's heads between training and evaluation; teachers stay in evaluation mode.

        Args:
            mode: True for training.

        Returns:
            The part itself.
        """
        super().train(mode)
        for _, teacher in self.student_teacher_pairs():
            teacher.eval()
        return self


def frozen_copy(student: Network) -> Network:
    """Copy a student module into a teacher with equal weights, frozen and in evaluation mode.

    Args:
        student: the module to copy; it is not changed.

    Returns:
        The teacher.

    >>> teacher = frozen_copy(nn.Linear(1, 1))
    >>> teacher.training, teacher.weight.requires_grad
    (False, False)
    """
    teacher = copy.deepcopy(student)
    return teacher.requires_grad_(False).eval()
