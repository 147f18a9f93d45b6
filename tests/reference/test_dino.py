"""The DINO head and the running centre of its teacher against recorded numbers."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from monai_anat.losses import DistillationCenter
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
def test_centre_over_three_steps(
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
