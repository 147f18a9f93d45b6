"""Parts of methods: teachers in evaluation mode, pairs, and networks that are compiled one by one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_anat.methods import TeacherStudentMethod
from monai_anat.methods.parts import MethodPart, frozen_copy
from monai_anat.schedules import Progress


class Part(MethodPart):
    """One head and its teacher."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(2, 2), nn.Dropout())
        self.teacher_head = frozen_copy(self.head)

    def forward(self, x: Tensor) -> Tensor:
        return (self.head(x) - self.teacher_head(x)).square().mean()

    def student_teacher_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.head, self.teacher_head)]


class Composed(TeacherStudentMethod):
    """A method with a backbone, its teacher and a part."""

    def __init__(self) -> None:
        super().__init__()
        self.loss_weights = {"difference": 1.0}
        self.backbone = nn.Linear(2, 2)
        self.teacher = nn.ModuleDict({"backbone": frozen_copy(self.backbone)})
        self.part = Part()

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        return {"difference": self.part(self.backbone(batch["x"]))}

    def export_networks(self) -> dict[str, nn.Module]:
        return {"encoder": self.backbone}


def test_a_frozen_copy_has_equal_weights_of_its_own() -> None:
    student = nn.Linear(2, 2).train()
    teacher = frozen_copy(student)
    assert torch.equal(teacher.weight, student.weight)
    assert not teacher.training and not teacher.weight.requires_grad
    assert student.training and student.weight.requires_grad
    teacher.weight.zero_()
    assert student.weight.abs().max() > 0


def test_pairs_of_a_method_include_those_of_its_parts() -> None:
    method = Composed()
    assert method.student_teacher_pairs() == [
        (method.backbone, method.teacher["backbone"]),
        (method.part.head, method.part.teacher_head),
    ]


@pytest.mark.parametrize("mode", [True, False])
def test_teachers_of_parts_stay_in_evaluation_mode(mode: bool) -> None:
    method = Composed().train(mode)
    assert method.part.head.training == mode
    assert not any(module.training for module in method.part.teacher_head.modules())
    part = Part().train(mode)
    assert not any(module.training for module in part.teacher_head.modules())


def test_networks_inside_a_part_are_compiled_and_the_part_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append(self))
    method = Composed()
    method.compile_networks()
    assert {id(module) for module in compiled} == {
        id(module)
        for module in (method.backbone, method.teacher["backbone"], method.part.head, method.part.teacher_head)
    }
