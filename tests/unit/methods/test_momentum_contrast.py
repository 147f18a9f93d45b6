"""Momentum contrast as a part of methods: query, key, queue, teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.methods.base import TeacherStudentMethod
from monai_anat.methods.momentum_contrast import MomentumContrast
from monai_anat.methods.parts import frozen_copy
from monai_anat.networks import ResNetBackbone, SwinBackbone
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.schedules import Progress

START = Progress(0, 1, 0, 1)


class Contrast(TeacherStudentMethod):
    """The smallest method with this part."""

    def __init__(self, backbone: Backbone | None = None, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        backbone = backbone or SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
        self.contrast = MomentumContrast(backbone.num_features, **{"embedding_dim": 6, "queue_size": 8, **options})
        self.loss_weights = {"contrast": 1.0}
        self.backbone = backbone
        self.teacher = torch.nn.ModuleDict({"backbone": frozen_copy(backbone)})

    def term(self, view_1: Tensor, view_2: Tensor, threshold: float | None = None) -> Tensor:
        with torch.no_grad():
            key_map = self.teacher["backbone"](view_2)
        return self.contrast(self.backbone(view_1), key_map, threshold)

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        return {"contrast": self.term(batch["view_1"], batch["view_2"])}

    def after_step(self, progress: Progress) -> None:
        self.contrast.enqueue()

    def export_networks(self) -> dict[str, torch.nn.Module]:
        return {"encoder": self.backbone}


def views(count: int = 4, size: int = 16) -> dict[str, Tensor]:
    one, two = torch.randn(2, count, 1, size, size, generator=torch.Generator().manual_seed(1)).unbind()
    return {"view_1": one, "view_2": two}


def moved_teacher(method: Contrast) -> Contrast:
    with torch.no_grad():
        teachers = torch.nn.ModuleList(teacher for _, teacher in method.student_teacher_pairs())
        for parameter in teachers.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)))
    return method


def unit(projection: torch.nn.Module, tokens: Tensor) -> Tensor:
    hidden = torch.relu(F.linear(tokens.mean(0), projection[0].weight, projection[0].bias))
    out = F.linear(hidden, projection[2].weight, projection[2].bias)
    return out / out.norm()


@pytest.mark.parametrize("threshold", [None, 0.1])
def test_the_term_equals_a_slow_loop(threshold: float | None) -> None:
    method, batch = moved_teacher(Contrast()), views()
    losses = []
    for b in range(4):
        query = unit(method.contrast.projection, method.backbone(batch["view_1"][b : b + 1])[0].flatten(1).T)
        key_map = method.teacher["backbone"](batch["view_2"][b : b + 1])
        key = unit(method.contrast.teacher_projection, key_map[0].flatten(1).T)
        negatives = [n for n in method.contrast.queue.keys if threshold is None or n @ query < threshold]
        logits = torch.stack([query @ key, *(query @ n for n in negatives)]) / 0.2
        losses.append(torch.logsumexp(logits, 0) - logits[0])
    slow = torch.stack(losses).mean()
    term = method.term(batch["view_1"], batch["view_2"], threshold)
    torch.testing.assert_close(term, slow, rtol=1e-5, atol=1e-5)
    swapped = method.term(batch["view_2"], batch["view_1"], threshold)
    assert abs(swapped - slow) > 1e-4


def test_keys_are_the_teachers_unit_vectors_and_wait_until_the_step() -> None:
    method, batch = moved_teacher(Contrast()).train(), views()
    old = method.contrast.queue.keys.clone()
    method(batch, START)
    assert torch.equal(method.contrast.queue.keys, old)
    method.after_step(START)
    tokens = method.teacher["backbone"](batch["view_2"]).flatten(2).transpose(1, 2)
    expected = torch.stack([unit(method.contrast.teacher_projection, t) for t in tokens])
    torch.testing.assert_close(method.contrast.queue.keys[:4], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(method.contrast.queue.keys[4:], old[4:])
    torch.testing.assert_close(method.contrast.queue.keys.norm(dim=1), torch.ones(8))


def test_evaluation_enqueues_nothing() -> None:
    method = Contrast().eval()
    old = method.contrast.queue.keys.clone()
    method(views(), START)
    method.after_step(START)
    assert torch.equal(method.contrast.queue.keys, old) and method.contrast.queue.pointer == 0


def test_micro_batches_of_one_step_are_enqueued_together() -> None:
    method = Contrast().train()
    batch = views()
    for part in (slice(0, 2), slice(2, 4)):
        method({name: v[part] for name, v in batch.items()}, START)
    method.after_step(START)
    other = Contrast().train()
    other(batch, START)
    other.after_step(START)
    torch.testing.assert_close(method.contrast.queue.keys, other.contrast.queue.keys)
    assert method.contrast.queue.pointer == other.contrast.queue.pointer == 4


def test_no_gradient_reaches_teacher_or_queue_and_batch_statistics_are_the_students() -> None:
    method, batch = Contrast(ResNetBackbone(depth=18)).train(), views(size=64)
    teachers = torch.nn.ModuleList(teacher for _, teacher in method.student_teacher_pairs())
    assert not any(module.training for module in teachers.modules() if module is not teachers)
    before = {name: v.clone() for name, v in teachers.named_buffers()}
    method(batch, START)["contrast"].backward()
    assert all(p.grad is None for p in teachers.parameters())
    assert all(p.grad is not None for p in method.contrast.projection.parameters())
    assert all(torch.equal(v, before[name]) for name, v in teachers.named_buffers())


def test_pairs_are_backbone_and_projection() -> None:
    method = Contrast()
    assert method.student_teacher_pairs() == [
        (method.backbone, method.teacher["backbone"]),
        (method.contrast.projection, method.contrast.teacher_projection),
    ]


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0; MoCo v2 uses 0.2"):
        Contrast(temperature=0)
    method = Contrast().train()
    method(views(3), START)
    with pytest.raises(ValueError, match=r"queue of 8 for a batch of 3; the nearest size is 9"):
        method.after_step(START)
