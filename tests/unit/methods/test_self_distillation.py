"""Self-distillation as a part of methods: loss, gradients, center, temperatures, frozen prototypes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_anat.losses import self_distillation
from monai_anat.losses.multi_view import distinct_pairs
from monai_anat.methods.self_distillation import SelfDistillation


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tiny(**options: float) -> SelfDistillation:
    """A part with another teacher and a center that is not 0."""
    torch.manual_seed(0)
    part = SelfDistillation(6, 10, hidden_features=8, bottleneck_features=4, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        for number, parameter in enumerate(part.teacher_head.parameters()):
            parameter.add_(0.1 * randn(*parameter.shape, seed=number))
        part.center.center.copy_(0.1 * randn(10))
    return part


@pytest.mark.parametrize("frozen", [False, True])
def test_the_loss_is_the_mean_over_pairs_and_the_center_observes(frozen: bool) -> None:
    part = tiny(frozen_epochs=3)
    student, teacher = randn(4, 3, 6), randn(2, 3, 6, seed=1)
    pairs, before = distinct_pairs(2, 4), part.center.center.clone()
    loss = part(student.unbind(), teacher.unbind(), pairs, epoch=2 if frozen else 3)
    slow = [
        self_distillation(part.head(student[s]), part.teacher_head(teacher[t]), before, 0.1, 0.04) for t, s in pairs
    ]
    torch.testing.assert_close(loss, torch.stack(slow).mean())
    loss.backward()
    assert all(parameter.grad is None for parameter in part.teacher_head.parameters())
    assert (part.head.last_layer.weight_v.grad is None) == frozen
    assert part.head.mlp[0].weight.grad is not None
    part.update_center()
    observed = part.teacher_head(teacher.flatten(0, 1)).mean(0)
    torch.testing.assert_close(part.center.center, 0.9 * before + 0.1 * observed)


def test_rows_are_compared_in_order() -> None:
    part = tiny(student_temperature=0.2, teacher_temperature=0.05)
    student, teacher = part.scores(randn(4, 6), randn(4, 6, seed=1), epoch=1)
    expected = self_distillation(student, teacher, part.center.center, 0.2, 0.05)
    assert torch.equal(part.compare(student, teacher), expected)
    assert abs(part.compare(student, teacher.flip(0)) - expected) > 1e-4
    assert not teacher.requires_grad


def test_a_call_may_replace_the_teachers_temperature() -> None:
    part, views = tiny().eval(), (randn(3, 6), randn(3, 6, seed=1))
    warm = part(views, views, [(0, 1)], epoch=1, teacher_temperature=0.07)
    part.teacher_temperature = 0.07
    assert torch.equal(part(views, views, [(0, 1)], epoch=1), warm)


def test_the_teacher_is_frozen_and_stays_in_evaluation_mode() -> None:
    part = tiny().train()
    assert part.head.training and not any(module.training for module in part.teacher_head.modules())
    assert not any(parameter.requires_grad for parameter in part.teacher_head.parameters())
    assert part.student_teacher_pairs() == [(part.head, part.teacher_head)]


def test_wrong_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match=r"temperatures must be positive, got student_temperature=-1"):
        tiny(student_temperature=-1.0)
    with pytest.raises(ValueError, match=r"frozen_prototype_epochs must be at least 0, got -1"):
        tiny(frozen_epochs=-1)
