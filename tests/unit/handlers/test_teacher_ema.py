from __future__ import annotations

import pytest
import torch
from ignite.engine import Events
from torch import nn

from monai_anat.handlers import TeacherEMA
from monai_anat.handlers.teacher_ema import move_teacher
from monai_anat.schedules import LinearSchedule


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    student, teacher = (nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)) for _ in range(2))
    student(torch.randn(8, 3))
    return student, teacher


def test_momentum_one_freezes_and_zero_copies():
    student, teacher = pair()
    before = [p.clone() for p in teacher.parameters()]
    move_teacher([(student, teacher)], 1.0)
    assert all(torch.equal(a, b) for a, b in zip(before, teacher.parameters(), strict=True))
    move_teacher([(student, teacher)], 0.0)
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), teacher.parameters(), strict=True))


def test_average_is_the_formula_and_buffers_are_copied():
    student, teacher = pair()
    expected = {
        n: 0.9 * t + 0.1 * s for (n, t), s in zip(teacher.named_parameters(), student.parameters(), strict=True)
    }
    move_teacher([(student, teacher)], 0.9)
    for name, value in teacher.named_parameters():
        torch.testing.assert_close(value, expected[name])
    assert torch.equal(student[1].running_mean, teacher[1].running_mean)
    student[1].running_mean += 1
    assert not torch.equal(student[1].running_mean, teacher[1].running_mean)


def test_statistics_may_be_averaged_as_the_weights_are():
    student, teacher = pair()
    start = teacher[1].running_mean.clone(), teacher[1].running_var.clone()
    weight = 0.9 * teacher[0].weight + 0.1 * student[0].weight
    move_teacher([(student, teacher)], 0.9, average_statistics=True)
    torch.testing.assert_close(teacher[1].running_mean, 0.9 * start[0] + 0.1 * student[1].running_mean)
    torch.testing.assert_close(teacher[1].running_var, 0.9 * start[1] + 0.1 * student[1].running_var)
    torch.testing.assert_close(teacher[0].weight, weight)
    assert teacher[1].num_batches_tracked == student[1].num_batches_tracked == 1


def test_the_handler_passes_on_how_statistics_move(make_trainer):
    for average in (False, True):
        trainer = make_trainer([TeacherEMA(1.0, average_statistics=average)], epochs=1)
        trainer.method.student.register_buffer("statistic", torch.tensor(2.0))
        trainer.method.teacher.register_buffer("statistic", torch.tensor(1.0))
        trainer.run()
        assert trainer.method.teacher.statistic == (1.0 if average else 2.0)


def test_averaged_statistics_start_from_what_the_first_step_saw(make_trainer):
    trainer = make_trainer([TeacherEMA(1.0, average_statistics=True)], epochs=1, micro_batch_size=2)
    maps = []
    trainer.method.student.norm.register_forward_pre_hook(lambda _, inputs: maps.append(inputs[0].detach()))
    trainer.run()
    assert len(maps) == 6  # three steps of two passes; a momentum of 1 keeps what the first step made
    var, mean = torch.var_mean(torch.stack(maps[:2]).movedim(2, 1).flatten(2), -1)
    weights = torch.tensor([0.9, 1.0]) / 1.9  # of the two passes in a running statistic
    torch.testing.assert_close(trainer.method.teacher.norm.running_mean, weights @ mean)
    torch.testing.assert_close(trainer.method.teacher.norm.running_var, weights @ var)


def test_statistics_that_no_batch_moved_stay(make_trainer):
    trainer = make_trainer([TeacherEMA(0.5, average_statistics=True)], epochs=1)
    for network in (trainer.method.student, trainer.method.teacher):
        network.unused = nn.BatchNorm1d(2)
    trainer.run()
    assert torch.equal(trainer.method.teacher.unused.running_mean, torch.zeros(2))
    assert torch.equal(trainer.method.teacher.unused.running_var, torch.ones(2))


def test_parameters_are_paired_by_name():
    with pytest.raises(ValueError, match=r"same names, differ in \['bias'\]"):
        move_teacher([(nn.Linear(2, 2), nn.Linear(2, 2, bias=False))], 0.9)


def test_handler_moves_the_teacher_by_the_schedule_after_each_step(make_trainer):
    trainer = make_trainer([TeacherEMA(LinearSchedule(0.0, 0.6))], epochs=1)
    weights = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda e: weights.append((e.method.student.conv.weight.clone(), e.method.teacher.conv.weight.clone())),
    )
    trainer.run()
    (_, teacher_0), (student_1, teacher_1), _ = weights
    assert torch.equal(*weights[0])
    torch.testing.assert_close(teacher_1, 0.2 * teacher_0 + 0.8 * student_1)


def test_a_method_without_teacher_is_refused(make_trainer):
    trainer = make_trainer()
    trainer.method = nn.Linear(1, 1)
    with pytest.raises(TypeError, match="needs a method with a teacher, got Linear"):
        TeacherEMA(0.9).attach(trainer)
