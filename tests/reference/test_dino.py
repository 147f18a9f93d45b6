"""Head, center and multi-crop loss of DINO against recorded numbers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_anat.losses import DistillationCenter
from monai_anat.losses.multi_view import distinct_pairs
from monai_anat.methods.self_distillation import SelfDistillation
from monai_anat.networks.heads.prototypes import PrototypeHead


def test_head(recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]) -> None:
    entry = reference("dino")["dino_head_reduced"]
    tensors, arch = recipes.build(entry["inputs"]), entry["inputs"]["arch"]
    head = PrototypeHead(
        arch["in_dim"],
        arch["out_dim"],
        hidden_features=arch["hidden_dim"],
        bottleneck_features=arch["bottleneck_dim"],
    )
    head.load_state_dict(tensors["weights"], strict=True)
    with torch.no_grad():
        out = head(tensors["x"])
    expected, tolerance = entry["expected"], entry["tolerance"]
    assert_agrees(out.mean(), expected["mean"], tolerance)
    assert_agrees(out.std(), expected["std"], tolerance)
    assert_agrees(out.flatten()[:8], expected["first8"], tolerance)
    assert_agrees(out.flatten()[-4:], expected["last4"], tolerance)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_center_over_three_steps(
    micro_batches: int,
    recipes: SimpleNamespace,
    reference: Callable[..., Any],
    assert_agrees: Callable[..., None],
) -> None:
    entry = reference("dino_losses")["dino_center_3steps"]
    tensors = recipes.build(entry["inputs"])
    center, norms = DistillationCenter(32, momentum=0.9), []
    for step in range(3):
        for part in tensors[f"teacher_logits_step{step}"].chunk(micro_batches):
            center.observe(part)
        center.update()
        norms.append(center.center.norm().item())
    assert_agrees(center.center, entry["expected"]["center"], entry["tolerance"])
    assert_agrees(norms, entry["expected"]["norm_per_step"], entry["tolerance"])


class Passes(nn.Module):
    """A head that returns the embedding as scores."""

    def forward(self, embeddings: Tensor, frozen_prototypes: bool = False) -> Tensor:
        return embeddings


def test_two_large_and_eight_small_crops(
    recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    """The values are recorded for the first stages of Adam-v2, which use the same loss."""
    entry = reference("adam_v2")["adam_v2_L_stageL"]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    tensors = recipes.build(inputs)
    distillation = SelfDistillation(
        8,
        512,
        hidden_features=8,
        bottleneck_features=8,
        student_temperature=inputs["student_temp"],
        teacher_temperature=inputs["teacher_temp"],
        center_momentum=inputs["center_momentum"],
    )
    distillation.head = distillation.teacher_head = Passes()  # type: ignore[assignment]
    student, teacher = tensors["student_logits"].chunk(10), tensors["teacher_logits"].chunk(2)
    loss = distillation(student, teacher, distinct_pairs(2, 10), epoch=0)
    assert_agrees(loss, expected["loss"], tolerance)
    distillation.update_center()
    center = distillation.center.center
    assert_agrees(center[:6], expected["center_first6"], tolerance)
    assert_agrees(center.norm(), expected["center_norm"], tolerance)
