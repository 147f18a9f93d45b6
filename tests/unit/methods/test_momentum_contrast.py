"""The query, the key and the queue that MoCo v2 and its kin share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.methods.momentum_contrast import MomentumContrastMethod
from monai_anat.networks import ResNetBackbone, SwinBackbone
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.schedules import Progress

START = Progress(0, 1, 0, 1)


class Contrast(MomentumContrastMethod):
    """The least that a subclass adds."""

    def __init__(self, backbone: Backbone | None = None, **options: Any) -> None:
        torch.manual_seed(0)
        backbone = backbone or SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2)
        super().__init__(
            backbone, **{"embedding_dim": 6, "hidden_dim": None, "queue_size": 8, "temperature": 0.2, **options}
        )
        self.loss_weights = {"contrast": 1.0}
        self.backbone = backbone

    def forward(self, batch: Mapping[str, Any], progress: Progress) -> dict[str, Tensor]:
        return {"contrast": self.contrast(self.backbone(batch["view_1"]), batch["view_2"])}

    def export_networks(self) -> dict[str, torch.nn.Module]:
        return {"encoder": self.backbone}


def views(count: int = 4, size: int = 16) -> dict[str, Tensor]:
    one, two = torch.randn(2, count, 1, size, size, generator=torch.Generator().manual_seed(1)).unbind()
    return {"view_1": one, "view_2": two}


def moved_teacher(method: Contrast) -> Contrast:
    with torch.no_grad():
        for parameter in method.teacher.parameters():
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
        query = unit(method.projection, method.backbone(batch["view_1"][b : b + 1])[0].flatten(1).T)
        key = unit(method.teacher["projection"], method.teacher["backbone"](batch["view_2"][b : b + 1])[0].flatten(1).T)
        negatives = [n for n in method.queue.keys if threshold is None or n @ query < threshold]
        logits = torch.stack([query @ key, *(query @ n for n in negatives)]) / 0.2
        losses.append(torch.logsumexp(logits, 0) - logits[0])
    slow = torch.stack(losses).mean()
    term = method.contrast(method.backbone(batch["view_1"]), batch["view_2"], threshold)
    torch.testing.assert_close(term, slow, rtol=1e-5, atol=1e-5)
    swapped = method.contrast(method.backbone(batch["view_2"]), batch["view_1"], threshold)
    assert abs(swapped - slow) > 1e-4


def test_keys_are_the_teachers_unit_vectors_and_wait_until_the_step() -> None:
    method, batch = moved_teacher(Contrast()).train(), views()
    old = method.queue.keys.clone()
    method(batch, START)
    assert torch.equal(method.queue.keys, old)
    method.after_step(START)
    tokens = method.teacher["backbone"](batch["view_2"]).flatten(2).transpose(1, 2)
    expected = torch.stack([unit(method.teacher["projection"], t) for t in tokens])
    torch.testing.assert_close(method.queue.keys[:4], expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(method.queue.keys[4:], old[4:])
    torch.testing.assert_close(method.queue.keys.norm(dim=1), torch.ones(8))


def test_evaluation_enqueues_nothing() -> None:
    method = Contrast().eval()
    old = method.queue.keys.clone()
    method(views(), START)
    method.after_step(START)
    assert torch.equal(method.queue.keys, old) and method.queue.pointer == 0


def test_micro_batches_of_one_step_are_enqueued_together() -> None:
    method = Contrast().train()
    batch = views()
    for part in (slice(0, 2), slice(2, 4)):
        method({name: v[part] for name, v in batch.items()}, START)
    method.after_step(START)
    other = Contrast().train()
    other(batch, START)
    other.after_step(START)
    torch.testing.assert_close(method.queue.keys, other.queue.keys)
    assert method.queue.pointer == other.queue.pointer == 4


def test_no_gradient_reaches_teacher_or_queue_and_batch_statistics_are_the_students() -> None:
    method, batch = Contrast(ResNetBackbone(depth=18)).train(), views(size=64)
    assert not any(module.training for _, teacher in method.student_teacher_pairs() for module in teacher.modules())
    before = {name: v.clone() for name, v in method.teacher.named_buffers()}
    method(batch, START)["contrast"].backward()
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.projection.parameters())
    assert all(torch.equal(v, before[name]) for name, v in method.teacher.named_buffers())


def test_pairs_are_backbone_and_projection() -> None:
    method = Contrast()
    assert [student for student, _ in method.student_teacher_pairs()] == [method.backbone, method.projection]
    assert [teacher for _, teacher in method.student_teacher_pairs()] == list(method.teacher.values())


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0; MoCo v2 has 0.2"):
        Contrast(temperature=0)
    method = Contrast().train()
    method(views(3), START)
    with pytest.raises(ValueError, match=r"queue of 8 for a batch of 3; the nearest size is 9"):
        method.after_step(START)
