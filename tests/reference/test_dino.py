"""The DINO head, the running center of its teacher and its multi-crop loss against recorded numbers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from monai_anat.losses import DistillationCenter
from monai_anat.losses.multi_view import distinct_pairs
from monai_anat.methods.multi_crop import distill_views
from monai_anat.networks import PrototypeHead


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
    """A head that scores prototypes by the entries of the embedding."""

    def forward(self, embeddings: Tensor, frozen_prototypes: bool = False) -> Tensor:
        return embeddings


def test_two_large_and_eight_small_crops(
    recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    """Recorded for the first stages of Adam-v2, which are DINO."""
    entry = reference("adam_v2")["adam_v2_L_stageL"]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    tensors, center = recipes.build(inputs), DistillationCenter(512, inputs["center_momentum"])
    student, teacher = tensors["student_logits"].chunk(10), tensors["teacher_logits"].chunk(2)
    temperatures, pairs = (inputs["student_temp"], inputs["teacher_temp"]), distinct_pairs(2, 10)
    loss = distill_views((Passes(), Passes()), center, student, teacher, temperatures, pairs)
    assert_agrees(loss, expected["loss"], tolerance)
    center.update()
    assert_agrees(center.center[:6], expected["center_first6"], tolerance)
    assert_agrees(center.center.norm(), expected["center_norm"], tolerance)
