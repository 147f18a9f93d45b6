"""Contrast with a queue: what is a negative and what is not, where gradients go, and what the queue keeps."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.losses import KeyQueue, batch_info_nce, pruned_info_nce


def unit(*shape: int, seed: int = 0) -> Tensor:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(rows, dim=-1)


def loop(query: Tensor, key: Tensor, queue: Tensor, temperature: float, threshold: float = math.inf) -> Tensor:
    """The definition, row by row and negative by negative."""
    losses = []
    for q, k in zip(query, key, strict=True):
        scores = [q @ k] + [q @ n for n in queue if q @ n < threshold]
        exponents = torch.stack(scores).div(temperature).exp()
        losses.append(-(exponents[0] / exponents.sum()).log())
    return torch.stack(losses).mean()


# ---------------------------------------------------------------------- the loss


@pytest.mark.parametrize("threshold", [-0.2, 0.0, 0.3, 0.8])
def test_it_is_the_definition(threshold: float) -> None:
    query, key, queue = unit(5, 6), unit(5, 6, seed=1), unit(40, 6, seed=2)
    torch.testing.assert_close(
        pruned_info_nce(query, key, queue, 0.2, threshold), loop(query, key, queue, 0.2, threshold)
    )


@pytest.mark.parametrize("threshold", [None, 1.5])
def test_without_pruning_it_is_info_nce_with_a_memory_bank(threshold: float | None) -> None:
    query, key, queue = unit(5, 6), unit(5, 6, seed=1), unit(40, 6, seed=2)
    similarity = query @ torch.cat([key, queue]).T / 0.2
    own = similarity[:, :5].diagonal()
    others = similarity[:, 5:].logsumexp(1)
    expected = F.softplus(others - own).mean()
    torch.testing.assert_close(pruned_info_nce(query, key, queue, 0.2, threshold), expected)


def test_the_gradient_is_that_of_the_kept_negatives_and_the_mask_has_none() -> None:
    queue = unit(20, 6, seed=2)
    query = unit(3, 6).requires_grad_()
    key = unit(3, 6, seed=1)
    (slow,) = torch.autograd.grad(loop(query, key, queue, 0.2, 0.3), query)
    (fast,) = torch.autograd.grad(pruned_info_nce(query, key, queue, 0.2, 0.3), query)
    torch.testing.assert_close(fast, slow)
    assert torch.autograd.gradcheck(lambda q: pruned_info_nce(q, key, queue, 0.2, 0.3), query)


def test_keys_and_queue_get_no_gradient() -> None:
    query, key, queue = (unit(*shape, seed=i).requires_grad_() for i, shape in enumerate([(2, 4), (2, 4), (6, 4)]))
    pruned_info_nce(query, key, queue, 0.2, 0.5).backward()
    assert query.grad is not None and query.grad.abs().max() > 0
    assert key.grad is None and queue.grad is None


def test_with_every_negative_pruned_loss_and_gradient_are_exactly_zero() -> None:
    query = unit(4, 8).requires_grad_()
    loss = pruned_info_nce(query, unit(4, 8, seed=1), unit(16, 8, seed=2), 0.2, prune_threshold=-1.0)
    loss.backward()
    assert loss.item() == 0.0
    assert query.grad is not None and query.grad.abs().max() == 0.0


def test_a_cosine_at_the_threshold_is_pruned_and_one_below_is_kept() -> None:
    query = torch.tensor([[1.0, 0.0]])
    at = torch.tensor([[0.75, math.sqrt(1 - 0.75**2)]])
    assert pruned_info_nce(query, query, at, 0.2, 0.75).item() == 0.0
    below = torch.nextafter(torch.tensor(0.75), torch.tensor(0.0)).item()
    kept = torch.tensor([[below, math.sqrt(1 - below**2)]])
    assert pruned_info_nce(query, query, kept, 0.2, 0.75).item() > 0.1


def test_pruning_compares_in_full_precision_under_autocast() -> None:
    """Two negatives 1.6e-5 beside the threshold, which bfloat16 cannot tell apart."""
    query = torch.tensor([[1.0, 0.0]])
    cosines = torch.tensor([0.8 + 1.6e-5, 0.8 - 1.6e-5])
    queue = torch.stack([cosines, (1 - cosines.square()).sqrt()], 1)
    with torch.autocast("cpu", torch.bfloat16):
        one_kept = pruned_info_nce(query, query, queue, 0.2, 0.8)
    torch.testing.assert_close(one_kept, pruned_info_nce(query, query, queue[1:], 0.2))


def test_a_duplicate_of_the_query_among_the_negatives_hurts_unless_it_is_pruned() -> None:
    query, queue = unit(1, 8), torch.cat([unit(16, 8, seed=2), unit(1, 8)])
    plain, pruned = (pruned_info_nce(query, query, queue, 0.2, t) for t in (None, 0.8))
    assert plain > pruned
    torch.testing.assert_close(pruned, pruned_info_nce(query, query, queue[:16], 0.2, 0.8))


def test_the_order_of_the_queue_does_not_matter() -> None:
    query, key, queue = unit(4, 8), unit(4, 8, seed=1), unit(16, 8, seed=2)
    torch.testing.assert_close(
        pruned_info_nce(query, key, queue.flip(0), 0.2, 0.3), pruned_info_nce(query, key, queue, 0.2, 0.3)
    )


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be \(B, D\) and queue \(K, D\), got \(2, 4\), \(3, 4\) and \(6, 4\)"):
        pruned_info_nce(unit(2, 4), unit(3, 4), unit(6, 4), 0.2)
    with pytest.raises(ValueError, match=r"got \(2, 4\), \(2, 4\) and \(4, 6\)"):
        pruned_info_nce(unit(2, 4), unit(2, 4), unit(4, 6), 0.2)
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0; MoCo v2 and Adam use 0.2"):
        pruned_info_nce(unit(2, 4), unit(2, 4), unit(6, 4), 0)


# ---------------------------------------------------------------------- the queue


def put(queue: KeyQueue, *keys: Tensor) -> None:
    for part in keys:
        queue.observe(part)
    queue.update()


def test_it_begins_with_unit_rows_and_a_pointer_in_the_state_dict() -> None:
    queue = KeyQueue(16, 4)
    assert set(queue.state_dict()) == {"keys", "pointer"}
    torch.testing.assert_close(queue.keys.norm(dim=1), torch.ones(16))
    assert queue.keys.unique(dim=0).shape == (16, 4)
    assert list(queue.parameters()) == []


def test_the_oldest_keys_leave_first() -> None:
    queue = KeyQueue(6, 4)
    start = queue.keys.clone()
    batches = [unit(2, 4, seed=seed).float() for seed in range(4)]
    put(queue, batches[0])
    assert torch.equal(queue.keys, torch.cat([batches[0], start[2:]]))
    for batch in batches[1:]:
        put(queue, batch)
    assert torch.equal(queue.keys, torch.cat([batches[3], batches[1], batches[2]]))
    assert queue.pointer.item() == 2


def test_a_pointer_that_a_larger_batch_left_behind_wraps_round() -> None:
    queue = KeyQueue(6, 4)
    put(queue, torch.full((2, 4), 1.0))
    put(queue, torch.full((3, 4), 2.0))
    put(queue, torch.full((3, 4), 3.0))
    assert queue.keys[:, 0].tolist() == [3.0, 3.0, 2.0, 2.0, 2.0, 3.0]
    assert queue.pointer.item() == 2


def test_micro_batches_of_a_step_enter_together_and_in_order() -> None:
    whole, parts = KeyQueue(8, 4), KeyQueue(8, 4)
    parts.load_state_dict(whole.state_dict())
    keys = unit(4, 4).float()
    put(whole, keys)
    parts.observe(keys[:2])
    parts.observe(keys[2:])
    assert not torch.equal(parts.keys, whole.keys)  # a micro-batch meets the queue of the step before
    assert parts.update() == 4
    assert torch.equal(parts.keys, whole.keys)
    assert torch.equal(parts.pointer, whole.pointer)


def test_nothing_enters_outside_training_and_nothing_without_keys() -> None:
    queue = KeyQueue(4, 4)
    before = queue.keys.clone()
    assert queue.update() == 0
    put(queue.eval(), unit(2, 4).float())
    put(queue.train())
    assert torch.equal(queue.keys, before)
    assert queue.pointer.item() == 0


def test_a_batch_with_a_key_that_is_not_finite_stays_out() -> None:
    queue = KeyQueue(4, 4)
    before = queue.keys.clone()
    keys = unit(2, 4).float()
    keys[1, 2] = math.nan
    put(queue, keys)
    assert torch.equal(queue.keys, before)


def test_observed_keys_have_no_graph() -> None:
    queue = KeyQueue(4, 4)
    keys = unit(2, 4).float().requires_grad_()
    put(queue, keys * 1.0)
    assert not queue.keys.requires_grad


def test_a_batch_that_does_not_divide_the_queue_is_refused() -> None:
    queue = KeyQueue(8, 4)
    queue.observe(unit(3, 4).float())
    with pytest.raises(ValueError, match=r"multiple of the batch .* got a queue of 8 for .* 3; the nearest size is 9"):
        queue.update()
    with pytest.raises(ValueError, match=r"size and num_features must be at least 1, got 0 and 4"):
        KeyQueue(0, 4)


# ---------------------------------------------------------------------- within the batch


def test_within_the_batch_it_is_info_nce_with_the_other_keys_as_queue() -> None:
    query, keys, positives = unit(4, 6), unit(12, 6, seed=1), torch.tensor([2, 0, 11, 5])
    slow = []
    for q, own in zip(query, positives.tolist(), strict=True):
        others = keys[[row for row in range(12) if row != own]]
        slow.append(loop(q[None], keys[own][None], others, 0.2))
    torch.testing.assert_close(batch_info_nce(query, keys, positives, 0.2), torch.stack(slow).mean())
    moved = batch_info_nce(query, keys.roll(3, 0), (positives + 3) % 12, 0.2)
    torch.testing.assert_close(moved, torch.stack(slow).mean())


def test_within_the_batch_equal_scores_cost_the_logarithm_of_their_number_and_keys_learn_nothing() -> None:
    query, keys = unit(4, 6).requires_grad_(), unit(1, 6, seed=1).repeat(7, 1).requires_grad_()
    value = batch_info_nce(query, keys, torch.arange(4), 0.2)
    assert value.item() == pytest.approx(math.log(7))
    value.backward()
    assert keys.grad is None
    keys = unit(7, 6, seed=1)
    assert torch.autograd.gradcheck(lambda q: batch_info_nce(q, keys, torch.arange(4), 0.2), query)


def test_within_the_batch_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"keys \(M, D\) and positives \(B,\), got \(4, 6\), \(7, 6\) and \(3,\)"):
        batch_info_nce(unit(4, 6), unit(7, 6), torch.arange(3), 0.2)
    with pytest.raises(ValueError, match=r"temperature must be positive, got 0; MoCo v3 uses 0.2"):
        batch_info_nce(unit(4, 6), unit(7, 6), torch.arange(4), 0)
