"""POPAR against recorded numbers: patch shuffling, both heads, both terms and their sum."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from monai_anat.losses import order_cross_entropy, restoration_mse
from monai_anat.networks.heads.order import OrderHead
from monai_anat.networks.heads.restoration import RestorationHead
from monai_anat.transforms import ShufflePatches


def at(tensor: torch.Tensor, entries: list[list[int]]) -> torch.Tensor:
    return torch.stack([tensor[tuple(index)] for index in entries])


@pytest.mark.parametrize("name", ["popar_loss_b2", "popar_loss_b3"])
@torch.no_grad()
def test_popar(
    name: str, recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("popar")[name]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    t = recipes.build(inputs)
    shuffle = ShufflePatches(32)
    shuffled = torch.stack([shuffle(image, order) for image, order in zip(t["image"], t["perm"], strict=True)])
    assert_agrees(at(shuffled, inputs["shuffled_entries"]), expected["shuffled"], tolerance)

    order_head = OrderHead(1024, 196)
    order_head.linear.weight.copy_(t["heads"]["head.weight"])
    order_head.linear.bias.copy_(t["heads"]["head.bias"])
    logits = order_head(t["tokens"])  # (B, N, N)
    assert_agrees(at(logits.flatten(0, 1), inputs["order_entries"]), expected["order_logits"], tolerance)

    restoration_head = RestorationHead(1024, 32, out_channels=3)
    restoration_head.linear.weight.copy_(t["heads"]["decoder.0.weight"].flatten(1))
    restoration_head.linear.bias.copy_(t["heads"]["decoder.0.bias"])
    feature_map = t["tokens"].transpose(1, 2).unflatten(2, (14, 14))  # (B, D, 14, 14)
    restored = restoration_head(feature_map)
    assert_agrees(at(restored, inputs["decoder_entries"]), expected["decoder"], tolerance)

    order, restoration = order_cross_entropy(logits, t["perm"]), restoration_mse(restored, t["target"])
    assert_agrees(order, expected["L_order"], tolerance)
    assert_agrees(restoration, expected["L_restore"], tolerance)
    assert_agrees(0.5 * order + 0.5 * restoration, expected["total"], tolerance)
