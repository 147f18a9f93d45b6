"""Teacher as a moving average of the student."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import torch
from ignite.engine import Events
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from monai_anat.engines.trainer import SSLEvents, SSLTrainer
from monai_anat.methods.base import TeacherStudentMethod
from monai_anat.schedules import ConstantSchedule, Schedule

__all__ = ["TeacherEMA", "move_teacher"]


#: (teacher, student) tensors
_Pairs = list[tuple[Tensor, Tensor]]


def move_teacher(
    pairs: Iterable[tuple[nn.Module, nn.Module]], momentum: float, average_statistics: bool = False
) -> None:
    r"""Update each teacher as a moving average, :math:`\theta_t \leftarrow m\,\theta_t + (1 - m)\,\theta_s`.

    Parameters are paired by name. Buffers (the running statistics of batch normalization) are copied, since the teacher
    runs in evaluation mode and would otherwise keep its initial ones, or averaged like the parameters.

    Args:
        pairs: (student, teacher) modules of the same structure.
        momentum: weight of the OLD teacher; 1 freezes it, 0 copies the student.
        average_statistics: average floating-point buffers instead of copying them (EMAN; Cai et al., CVPR 2021,
            arXiv:2101.08482), so that they fit the teacher's weights and not the student's.

    Raises:
        ValueError: if the parameters of a pair have different names.

    >>> student, teacher = nn.Linear(1, 1), nn.Linear(1, 1)
    >>> move_teacher([(student, teacher)], momentum=0.0)
    >>> bool(teacher.weight == student.weight)
    True
    """
    _move(*_pair_up(pairs, average_statistics), momentum)


@torch.no_grad()
def _start_statistics(pairs: Iterable[tuple[nn.Module, nn.Module]]) -> None:
    """Give each teacher the statistics of the batches that its student has processed since the two were equal.

    A running statistic is a weighted mean of its initial value and of the batches. The teacher still has the initial
    value, so its share can be removed.
    """
    for student, teacher in pairs:
        for seen, kept in zip(student.modules(), teacher.modules(), strict=True):
            if not (isinstance(seen, _BatchNorm) and isinstance(kept, _BatchNorm)) or seen.momentum is None:
                continue
            if seen.num_batches_tracked is None or kept.num_batches_tracked is None:
                continue  # it normalizes by the current batch
            batches = seen.num_batches_tracked - kept.num_batches_tracked
            share = torch.pow(1.0 - seen.momentum, batches)  # of where it began
            for name, least in (("running_mean", None), ("running_var", 0.0)):
                now, began = getattr(seen, name), getattr(kept, name)
                moved = torch.where(batches > 0, (now - share * began) / (1 - share), began)
                began.copy_(moved.clamp(min=least) if least is not None else moved)  # rounding


def _pair_up(pairs: Iterable[tuple[nn.Module, nn.Module]], average_statistics: bool) -> tuple[_Pairs, _Pairs]:
    """Return the pairs of tensors that are averaged, and those that are copied."""
    averaged: _Pairs = []
    copied: _Pairs = []
    for student, teacher in pairs:
        averaged += _paired(student.named_parameters(), teacher.named_parameters())
        for buffers in _paired(student.named_buffers(), teacher.named_buffers()):
            (averaged if average_statistics and buffers[0].is_floating_point() else copied).append(buffers)
    return averaged, copied


@torch.no_grad()
def _move(averaged: _Pairs, copied: _Pairs, momentum: float) -> None:
    if averaged:
        torch._foreach_lerp_([t for t, _ in averaged], [s for _, s in averaged], 1.0 - momentum)
    if copied:
        torch._foreach_copy_([t for t, _ in copied], [s for _, s in copied])


def _paired(student: Iterable[tuple[str, Tensor]], teacher: Iterable[tuple[str, Tensor]]) -> _Pairs:
    """Pair tensors of the same name."""
    sources, targets = dict(student), dict(teacher)
    if sources.keys() != targets.keys():
        raise ValueError(
            f"student and teacher must have the same names, differ in {sorted(sources.keys() ^ targets.keys())}"
        )
    return [(target, sources[name].detach()) for name, target in targets.items()]


class TeacherEMA:
    """Update the teacher of a ``TeacherStudentMethod`` after every optimizer step.

    A step that is skipped for non-finite gradients does not change the student, so the average stays finite.

    Args:
        momentum: weight of the old teacher, or a schedule of it (PEAC: cosine from 0.999 to 1). It must fit the length
            of the run: after 1,000 steps at 0.999, a third of the teacher is still its random initialization.
        average_statistics: average the running statistics of batch normalization as well, instead of copying the
            student's. A queue of keys needs this, because keys that change with the student's statistics are outdated
            at once. The average starts from the statistics of the first batch. From the initial mean 0 and variance 1
            it would need ``1 / (1 - momentum)`` steps, and keys would encode their age and not their image.

    Raises:
        TypeError: on ``attach``, if the method of the trainer has no teacher.

    >>> TeacherEMA(0.996).momentum.value
    0.996
    """

    def __init__(self, momentum: Schedule | float, average_statistics: bool = False) -> None:
        self.average_statistics = average_statistics
        self.momentum = ConstantSchedule(momentum) if isinstance(momentum, int | float) else momentum
        self._tensors: tuple[_Pairs, _Pairs] = ([], [])

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer."""
        if not isinstance(engine.method, TeacherStudentMethod):
            raise TypeError(
                f"TeacherEMA needs a method with a teacher, got {type(engine.method).__name__}; remove the handler"
            )
        engine.add_event_handler(Events.EPOCH_STARTED, self._pair)
        engine.add_event_handler(SSLEvents.OPTIMIZER_STEPPED, self)

    def _pair(self, engine: SSLTrainer) -> None:
        """Pair the tensors once per epoch, because pairing takes longer than an update."""
        method = cast(TeacherStudentMethod, engine.method)
        self._tensors = _pair_up(method.student_teacher_pairs(), self.average_statistics)

    def __call__(self, engine: SSLTrainer) -> None:
        """Update the teacher with the momentum of this step.

        Args:
            engine: the trainer.
        """
        if self.average_statistics and engine.progress.step == 0:
            _start_statistics(cast(TeacherStudentMethod, engine.method).student_teacher_pairs())
        _move(*self._tensors, self.momentum(engine.progress))
