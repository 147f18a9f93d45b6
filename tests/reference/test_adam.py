"""Adam against recorded numbers: the pruned contrast with its gradient, and the queue of keys."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from monai_anat.losses import KeyQueue, pruned_info_nce

CONTRASTS = [
    "adam_v1_thr0.8_dup",
    "adam_v1_thr0.05",
    "adam_v1_thr0.8_no_pruning_bites",
    "adam_v1_thr0.8_dup_strong",
    "adam_v1_thr0.8_fill",
]


def test_every_entry_is_tested(reference: Callable[..., Any]) -> None:
    assert set(reference("adam_v1")) == {*CONTRASTS, "adam_v1_all_pruned", "moco_queue"}


@pytest.mark.parametrize("name", CONTRASTS)
@pytest.mark.parametrize("suffix", ["", "_without_pruning"])
def test_contrast(
    name: str,
    suffix: str,
    recipes: SimpleNamespace,
    reference: Callable[..., Any],
    assert_agrees: Callable[..., None],
) -> None:
    entry = reference("adam_v1")[name]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    t = recipes.build(inputs)
    query = t["query"].requires_grad_()
    threshold = None if suffix else inputs["threshold"]
    loss = pruned_info_nce(query, t["key"], t["bank"], inputs["temperature"], threshold)
    loss.backward()
    assert_agrees(loss, expected[f"loss{suffix}"], tolerance)
    assert_agrees(query.grad.norm(), expected[f"grad_query_norm{suffix}"], tolerance)
    if not suffix:
        assert_agrees(query.grad.flatten()[:4], expected["grad_query_first4"], tolerance)
        assert_agrees((query @ t["bank"].T >= threshold).sum(1), expected["pruned_per_row"])


def test_all_pruned(reference: Callable[..., Any], assert_agrees: Callable[..., None]) -> None:
    entry = reference("adam_v1")["adam_v1_all_pruned"]
    query = torch.eye(17)[:1].repeat(3, 1)
    loss = pruned_info_nce(query, -query, query[:1].repeat(16, 1), 0.2, entry["inputs"]["threshold"])
    assert_agrees(loss, entry["expected"]["loss"], entry["tolerance"])


def test_queue(recipes: SimpleNamespace, reference: Callable[..., Any], assert_agrees: Callable[..., None]) -> None:
    entry = reference("adam_v1")["moco_queue"]
    inputs, expected, tolerance = entry["inputs"], entry["expected"], entry["tolerance"]
    columns = recipes.build(inputs)["queue"]  # (D, K) as released
    queue = KeyQueue(columns.shape[1], columns.shape[0])
    queue.load_state_dict({"keys": columns.T, "pointer": torch.tensor(0)})
    for seed in inputs["key_seeds"]:
        queue.observe(recipes.hfill((inputs["batch"], columns.shape[0]), seed))
        queue.update()
    assert_agrees(queue.pointer, expected["pointer"])
    assert_agrees(queue.keys.sum(1), expected["column_sums"], tolerance)
