"""Self-distillation is a cross-entropy of soft targets, and its center is that of the joint batch."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from monai_anat.losses import DistillationCenter, self_distillation


def logits_of(seed: int, rows: int = 6, prototypes: int = 10) -> Tensor:
    return torch.randn(rows, prototypes, generator=torch.Generator().manual_seed(seed))


# ---------------------------------------------------------------------- the loss


def test_it_is_the_cross_entropy_of_the_formula() -> None:
    student, teacher, center = logits_of(0), logits_of(1), logits_of(2)[0]
    rows = []
    for s, t in zip(student.double().tolist(), teacher.double().tolist(), strict=True):
        weights = [math.exp((value - c) / 0.04) for value, c in zip(t, center.tolist(), strict=True)]
        log_sum = math.log(sum(math.exp(value / 0.1) for value in s))
        rows.append(-sum(w * (value / 0.1 - log_sum) for w, value in zip(weights, s, strict=True)) / sum(weights))
    value = self_distillation(student, teacher, center, 0.1, 0.04)
    assert value.item() == pytest.approx(sum(rows) / len(rows), rel=1e-5)


def test_it_is_least_where_the_student_agrees_and_there_the_entropy_of_the_target() -> None:
    teacher, center = 0.1 * logits_of(0), torch.zeros(10)
    agreeing = 0.1 * teacher / 0.04  # the same distribution at the student's temperature
    target = torch.softmax(teacher / 0.04, 1)
    entropy = -(target * target.log()).sum(1).mean()
    least = self_distillation(agreeing, teacher, center, 0.1, 0.04)
    torch.testing.assert_close(least, entropy)
    for seed in range(5):
        assert self_distillation(agreeing + 0.1 * logits_of(seed), teacher, center, 0.1, 0.04) > least


def test_adding_a_constant_to_a_row_changes_nothing() -> None:
    student, teacher, center = logits_of(0), logits_of(1), logits_of(2)[0]
    value = self_distillation(student, teacher, center, 0.1, 0.04)
    moved = self_distillation(student + logits_of(3)[:, :1], teacher + logits_of(4)[:, :1], center, 0.1, 0.04)
    torch.testing.assert_close(moved, value)


def test_a_teacher_equal_to_the_center_asks_for_no_prototype_above_another() -> None:
    teacher = logits_of(1)[:1].repeat(6, 1)
    value = self_distillation(torch.zeros(6, 10), teacher, teacher[0], 0.1, 0.04)
    assert value.item() == pytest.approx(math.log(10), rel=1e-6)
    student = torch.zeros(6, 10, requires_grad=True)
    self_distillation(student, teacher, teacher[0], 0.1, 0.04).backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-7


def test_the_order_of_the_rows_pairs_student_and_teacher() -> None:
    student, teacher, center = logits_of(0), logits_of(1), torch.zeros(10)
    value = self_distillation(student, teacher, center, 0.1, 0.04)
    torch.testing.assert_close(self_distillation(student.flip(0), teacher.flip(0), center, 0.1, 0.04), value)
    assert abs(self_distillation(student.flip(0), teacher, center, 0.1, 0.04) - value) > 0.1


def test_only_the_student_gets_a_gradient_and_it_is_exact() -> None:
    student, teacher = logits_of(0).double().requires_grad_(), logits_of(1).double().requires_grad_()
    center = logits_of(2)[0].double()
    assert torch.autograd.gradcheck(lambda s: self_distillation(s, teacher.detach(), center, 0.5, 0.4), student)
    self_distillation(student, teacher, center, 0.5, 0.4).backward()
    assert student.grad is not None
    assert teacher.grad is None


def test_half_precision_logits_are_compared_in_float32_and_far_ones_stay_finite() -> None:
    student, teacher = logits_of(0).bfloat16(), logits_of(1).bfloat16()
    half = self_distillation(student, teacher, torch.zeros(10), 0.1, 0.04)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, self_distillation(student.float(), teacher.float(), torch.zeros(10), 0.1, 0.04))
    assert torch.isfinite(self_distillation(1e4 * student, 1e4 * teacher, torch.zeros(10), 0.1, 0.04))


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must both be \(B, K\), got \(6, 10\) and \(5, 10\); pair the rows"):
        self_distillation(logits_of(0), logits_of(1)[:5], torch.zeros(10), 0.1, 0.04)
    with pytest.raises(ValueError, match=r"temperatures must be positive, got .*teacher_temperature=0"):
        self_distillation(logits_of(0), logits_of(1), torch.zeros(10), 0.1, 0.0)


# ---------------------------------------------------------------------- the center


def test_it_moves_once_per_update_to_the_mean_over_all_rows() -> None:
    center, first, second = DistillationCenter(10, momentum=0.9), logits_of(0, 6), logits_of(1, 2)
    center.observe(first)
    center.observe(second)
    assert torch.equal(center.center, torch.zeros(10))
    center.update()
    torch.testing.assert_close(center.center, 0.1 * torch.cat([first, second]).mean(0))
    before = center.center.clone()
    center.update()  # nothing was seen since
    assert torch.equal(center.center, before)


def test_it_tends_to_a_constant_mean() -> None:
    center, teacher = DistillationCenter(10, momentum=0.5), logits_of(0)
    for _ in range(30):
        center.observe(teacher)
        center.update()
    torch.testing.assert_close(center.center, teacher.mean(0))


def test_evaluation_leaves_it_alone() -> None:
    center = DistillationCenter(10).eval()
    center.observe(logits_of(0))
    center.update()
    assert torch.equal(center.center, torch.zeros(10))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_values_that_are_not_finite_leave_it_where_it_is(bad: float) -> None:
    center = DistillationCenter(10)
    center.observe(logits_of(0))
    center.update()
    before = center.center.clone()
    center.observe(logits_of(1).index_fill(1, torch.tensor([3]), bad))
    center.update()
    assert torch.equal(center.center, before)
    center.observe(logits_of(2))
    center.update()
    assert not torch.equal(center.center, before)


def test_it_is_in_the_state_dict_and_not_among_the_parameters() -> None:
    center, other = DistillationCenter(10), DistillationCenter(10)
    center.observe(logits_of(0))
    center.update()
    assert not list(center.parameters())
    other.load_state_dict(center.state_dict())
    assert torch.equal(other.center, center.center)


@pytest.mark.parametrize("momentum", [-0.1, 1.0])
def test_a_momentum_that_never_moves_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got .*DINO uses 0.9"):
        DistillationCenter(10, momentum)


#: what each of two processes does: its share of the rows, in two micro-batches; argv is rank, meeting place, output
WORKER = """
import sys, torch, torch.distributed as dist
from monai_anat.losses import DistillationCenter
rank, place, output = int(sys.argv[1]), sys.argv[2], sys.argv[3]
dist.init_process_group("gloo", init_method="file://" + place, rank=rank, world_size=2)
center = DistillationCenter(10, momentum=0.5)
for step in range(2):
    rows = torch.randn(8, 10, generator=torch.Generator().manual_seed(step))[rank::2]
    center.observe(rows[:3])
    center.observe(rows[3:])
    center.update()
torch.save(center.center, output)
dist.destroy_process_group()
"""


def test_two_processes_have_the_center_of_the_joint_batch(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    outputs = [tmp_path / f"center_{rank}.pt" for rank in range(2)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WORKER, str(rank), str(tmp_path / "place"), str(output)],
            env=environment,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, output in enumerate(outputs)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors[-2000:]
    joint = DistillationCenter(10, momentum=0.5)
    for step in range(2):
        joint.observe(logits_of(step, 8))
        joint.update()
    for output in outputs:
        torch.testing.assert_close(torch.load(output, weights_only=True), joint.center)
