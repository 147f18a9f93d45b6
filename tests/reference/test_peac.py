"""PEAC against recorded numbers: all terms, their weighted sum, and the released multi-GPU weights."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from monai_anat.losses import global_consistency, matched_consistency, order_cross_entropy, restoration_mse
from monai_anat.transforms.geometry import match_cells

NAMES = ["peac_losses_b3", "peac_losses_b2_noshuffle", "peac_losses_b2_allshuffled"]


def correspondence_of(inputs: dict[str, Any]) -> Tensor:
    """(B, 196): true matches of unshuffled samples, -1 for shuffled ones."""
    rows = [
        torch.full((196,), -1) if shuffled else match_cells((r1, c1), (r2, c2), (14, 14))
        for (r1, c1, r2, c2), shuffled in zip(inputs["cells"], inputs["shuffled_flag"], strict=True)
    ]
    return torch.stack(rows)


@pytest.mark.parametrize("name", NAMES)
def test_peac(
    name: str, recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("peac")[name]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    t = recipes.build(inputs)
    correspondence = correspondence_of(inputs)
    order = order_cross_entropy(t["order_logits"].unflatten(0, (-1, 196)), t["perm"])
    restoration = restoration_mse(t["restored"], t["target"])
    both_ways = global_consistency(t["global1_student"], t["global2_teacher"])
    both_ways += global_consistency(t["global2_student"], t["global1_teacher"])
    local = matched_consistency(t["local1_student"], t["local2_teacher"], correspondence)
    local = (local + matched_consistency(t["local1_teacher"], t["local2_student"], correspondence)) / 2

    assert_agrees((correspondence >= 0).sum(), expected["n_pairs"], tolerance)
    assert_agrees(order, expected["L_order"], tolerance)
    assert_agrees(restoration, expected["L_restore"], tolerance)
    assert_agrees(both_ways / 8192, expected["L_global"], tolerance)
    assert_agrees(local, expected["L_local"], tolerance)
    assert_agrees(order + restoration + 1e5 / 8192 * both_ways + local, expected["total"], tolerance)
    # the released multi-GPU script: half the global weight, twice the local one
    assert_agrees(order + restoration + 0.5e5 / 8192 * both_ways + 2 * local, expected["ddp_total"], tolerance)


def test_exchanged_rows_and_columns_do_not_agree(
    recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("peac")["peac_losses_b2_noshuffle"]
    t = recipes.build(entry["inputs"])
    transposed = torch.stack(
        [match_cells((c1, r1), (c2, r2), (14, 14)) for r1, c1, r2, c2 in [(0, 1, 3, 2), (4, 0, 1, 3)]]
    )
    local = matched_consistency(t["local1_student"], t["local2_teacher"], transposed)
    with pytest.raises(AssertionError):
        assert_agrees(local, entry["expected"]["L_local"], entry["tolerance"])
