"""Self-distillation over pairs of views, against an explicit double loop."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from monai_anat.losses import multi_view_distillation, self_distillation
from monai_anat.losses.multi_view import distinct_pairs


def logits_of(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_hand(student: Tensor, teacher: Tensor, center: Tensor, pairs: list[tuple[int, int]]) -> float:
    """One number at a time."""
    terms = []
    for t, s in pairs:
        for row_t, row_s in zip(teacher[t].tolist(), student[s].tolist(), strict=True):
            sharp = [math.exp((x - c) / 0.04) for x, c in zip(row_t, center.tolist(), strict=True)]
            soft = [math.exp(x / 0.1) for x in row_s]
            chances = [(p / sum(sharp), math.log(q / sum(soft))) for p, q in zip(sharp, soft, strict=True)]
            terms.append(-sum(p * q for p, q in chances))
    return sum(terms) / len(terms)


@pytest.mark.parametrize(
    "pairs", [distinct_pairs(2, 5), [(0, v) for v in range(5)], [(1, 1)], [(0, 2), (0, 2), (1, 0)]]
)
def test_it_is_the_mean_over_the_given_pairs(pairs: list[tuple[int, int]]) -> None:
    student, teacher, center = logits_of(5, 3, 7), logits_of(2, 3, 7, seed=1), 0.3 * logits_of(7, seed=2)
    value = multi_view_distillation(student, teacher, center, 0.1, 0.04, pairs)
    assert value.item() == pytest.approx(by_hand(student, teacher, center, pairs), rel=1e-10)
    single = [self_distillation(student[s], teacher[t], center, 0.1, 0.04) for t, s in pairs]
    torch.testing.assert_close(value, torch.stack(single).mean())


def test_views_may_come_as_a_list() -> None:
    student, teacher, center = logits_of(3, 2, 5), logits_of(2, 2, 5, seed=1), torch.zeros(5)
    pairs = distinct_pairs(2, 3)
    stacked = multi_view_distillation(student, teacher, center, 0.1, 0.04, pairs)
    assert torch.equal(multi_view_distillation(list(student), list(teacher), center, 0.1, 0.04, pairs), stacked)


def test_how_many_pairs_there_are() -> None:
    assert len(distinct_pairs(2, 10)) == 18
    assert set(distinct_pairs(2, 2)) == {(0, 1), (1, 0)}


def test_equal_sides_cost_the_entropy_and_it_is_the_least() -> None:
    logits, zero = logits_of(1, 4, 6), torch.zeros(6)
    entropy = torch.distributions.Categorical(logits=logits[0] / 0.1).entropy().mean()
    torch.testing.assert_close(multi_view_distillation(logits, logits, zero, 0.1, 0.1, [(0, 0)]), entropy)
    other = logits + 0.1 * logits_of(1, 4, 6, seed=3)
    assert multi_view_distillation(other, logits, zero, 0.1, 0.1, [(0, 0)]) > entropy


def test_only_paired_student_views_learn() -> None:
    student = logits_of(3, 2, 4).requires_grad_()
    teacher = logits_of(1, 2, 4, seed=1).requires_grad_()
    multi_view_distillation(student, teacher, torch.zeros(4), 0.1, 0.04, [(0, 0), (0, 2)]).backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert student.grad.flatten(1).abs().sum(1).gt(0).tolist() == [True, False, True]


def test_half_precision_is_summed_in_float32() -> None:
    student, teacher = logits_of(2, 2, 64).bfloat16(), logits_of(2, 2, 64, seed=1).bfloat16()
    center, pairs = torch.zeros(64), distinct_pairs(2, 2)
    value = multi_view_distillation(student, teacher, center, 0.1, 0.04, pairs)
    assert value.dtype == torch.float32
    torch.testing.assert_close(
        value, multi_view_distillation(student.float(), teacher.float(), center, 0.1, 0.04, pairs)
    )


def test_misfits_are_refused() -> None:
    student, teacher, center = torch.zeros(3, 2, 4), torch.zeros(2, 2, 4), torch.zeros(4)
    with pytest.raises(ValueError, match=r"\(B, K\) for each view, all of the same shape, got .*\(2, 4\).*\(2, 5\)"):
        multi_view_distillation(student, torch.zeros(2, 2, 5), center, 0.1, 0.04, [(0, 1)])
    for pairs in ([], [(2, 0)], [(0, 3)], [(0, -1)]):
        with pytest.raises(ValueError, match=r"at least one .* of 2 and 3 views, .*distinct_pairs\(2, 3\)"):
            multi_view_distillation(student, teacher, center, 0.1, 0.04, pairs)
    for temperatures in ((0.0, 0.04), (0.1, -1.0)):
        with pytest.raises(ValueError, match=r"temperatures must be positive"):
            multi_view_distillation(student, teacher, center, *temperatures, [(0, 1)])
