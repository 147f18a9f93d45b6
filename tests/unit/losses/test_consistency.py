"""Global and matched consistency: what they are zero at, what they ignore, and how they divide."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.losses import global_consistency, matched_consistency


def random_matching(batch: int = 3, cells: int = 10, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens of two views (B, N, D) and a partial one-to-one matching (B, N)."""
    generator = torch.Generator().manual_seed(seed)
    tokens_1 = torch.randn(batch, cells, 4, generator=generator)
    tokens_2 = torch.randn(batch, cells, 4, generator=generator)
    correspondence = torch.stack([torch.randperm(cells, generator=generator) for _ in range(batch)])
    correspondence[torch.rand(batch, cells, generator=generator) < 0.4] = -1
    return tokens_1, tokens_2, correspondence


def loop(tokens_1: Tensor, tokens_2: Tensor, correspondence: Tensor) -> Tensor:
    """The definition, pair by pair."""
    squares = [
        (tokens_1[b, i] - tokens_2[b, j]).square()
        for b, row in enumerate(correspondence.tolist())
        for i, j in enumerate(row)
        if j >= 0
    ]
    return torch.stack(squares).mean()


# ---------------------------------------------------------------------- global


def test_global_ignores_length_and_width() -> None:
    a = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    b = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    value = global_consistency(a, b)
    torch.testing.assert_close(global_consistency(3.0 * a, 0.1 * b), value)
    wider = global_consistency(torch.cat([a, a], 1), torch.cat([b, b], 1))
    torch.testing.assert_close(wider, value)


def test_global_is_two_minus_two_cosines() -> None:
    a, b = torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(2))
    expected = (2 - 2 * F.cosine_similarity(a, b)).mean()
    torch.testing.assert_close(global_consistency(a, b), expected)
    torch.testing.assert_close(global_consistency(b, a), expected)


def test_global_of_opposite_and_orthogonal() -> None:
    a = torch.tensor([[2.0, 0.0]])
    assert global_consistency(a, -a).item() == pytest.approx(4.0)
    assert global_consistency(a, torch.tensor([[0.0, 5.0]])).item() == pytest.approx(2.0)


def test_global_times_the_default_weight_is_the_published_value() -> None:
    a, b = torch.randn(2, 3, 8192, generator=torch.Generator().manual_seed(3))
    published = 1e5 * F.mse_loss(F.normalize(a, dim=1), F.normalize(b, dim=1))
    torch.testing.assert_close(global_consistency(a, b) * (1e5 / 8192), published)


def test_global_gradient_is_exact_and_finite_at_zero() -> None:
    a, b = torch.randn(2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    assert torch.autograd.gradcheck(global_consistency, (a.requires_grad_(), b))
    zero = torch.zeros(2, 4, requires_grad=True)
    global_consistency(zero, torch.ones(2, 4)).backward()
    assert torch.isfinite(zero.grad).all()


def test_global_keeps_precision_under_autocast() -> None:
    a, b = torch.randn(2, 3, 64, generator=torch.Generator().manual_seed(5))
    with torch.autocast("cpu", torch.bfloat16):
        value = global_consistency(a, b)
    assert value.dtype == torch.float32
    assert value == global_consistency(a, b)
    assert global_consistency(a.bfloat16(), b.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("shapes", [((2, 4), (2, 5)), ((2, 3, 4), (2, 3, 4))])
def test_global_says_which_shapes_it_needs(shapes: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    with pytest.raises(ValueError, match=r"must both be \(B, D\), got .* pool the tokens first"):
        global_consistency(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


# ---------------------------------------------------------------------- matched


def test_matched_equals_the_loop() -> None:
    tokens_1, tokens_2, correspondence = random_matching()
    torch.testing.assert_close(
        matched_consistency(tokens_1, tokens_2, correspondence), loop(tokens_1, tokens_2, correspondence)
    )


def test_matched_is_zero_when_matched_tokens_agree_and_only_then() -> None:
    tokens_1, tokens_2, correspondence = random_matching()
    for b, row in enumerate(correspondence.tolist()):
        for i, j in enumerate(row):
            if j >= 0:
                tokens_2[b, j] = tokens_1[b, i]
    assert matched_consistency(tokens_1, tokens_2, correspondence) == 0.0
    assert matched_consistency(tokens_2, tokens_1, correspondence) > 0.0


def test_matched_is_symmetric_with_the_inverse_matching() -> None:
    tokens_1, tokens_2, correspondence = random_matching()
    inverse = torch.full_like(correspondence, -1)
    for b, row in enumerate(correspondence.tolist()):
        for i, j in enumerate(row):
            if j >= 0:
                inverse[b, j] = i
    torch.testing.assert_close(
        matched_consistency(tokens_1, tokens_2, correspondence), matched_consistency(tokens_2, tokens_1, inverse)
    )


def test_matched_is_pooled_over_the_batch_and_not_averaged_per_sample() -> None:
    tokens_1, tokens_2 = torch.zeros(2, 3, 1), torch.zeros(2, 3, 1)
    tokens_1[0] = 3.0
    correspondence = torch.tensor([[0, -1, -1], [0, 1, 2]])
    assert matched_consistency(tokens_1, tokens_2, correspondence).item() == pytest.approx(9.0 / 4)


def test_samples_that_take_no_part_change_nothing() -> None:
    tokens_1, tokens_2, correspondence = random_matching()
    value = matched_consistency(tokens_1, tokens_2, correspondence)
    more = [torch.cat([t, torch.full_like(t, 7.0)]) for t in (tokens_1, tokens_2)]
    without = torch.cat([correspondence, torch.full_like(correspondence, -1)])
    torch.testing.assert_close(matched_consistency(*more, without), value)


def test_no_pair_gives_zero_with_a_gradient_path() -> None:
    tokens_1 = torch.randn(2, 4, 3, requires_grad=True)
    tokens_2 = torch.randn(2, 4, 3, requires_grad=True)
    for pair_count in (None, torch.tensor(0.0), torch.tensor(5.0)):
        value = matched_consistency(tokens_1, tokens_2, torch.full((2, 4), -1), pair_count)
        assert value == 0.0
        value.backward()
        assert (tokens_1.grad == 0).all()
        assert (tokens_2.grad == 0).all()


def test_unmatched_tokens_may_hold_anything() -> None:
    tokens_1 = torch.tensor([[[math.inf], [1.0]]], requires_grad=True)
    tokens_2 = torch.tensor([[[math.nan], [3.0]]], requires_grad=True)
    for normalize in (False, True):
        value = matched_consistency(tokens_1, tokens_2, torch.tensor([[-1, 1]]), normalize=normalize)
        assert value.item() == (0.0 if normalize else 4.0)
    matched_consistency(tokens_1, tokens_2, torch.tensor([[-1, 1]])).backward()
    assert tokens_1.grad[0, :, 0].tolist() == [0.0, -4.0]
    assert tokens_2.grad[0, :, 0].tolist() == [0.0, 4.0]


def test_micro_batches_with_the_mean_count_equal_the_joint_batch() -> None:
    tokens_1, tokens_2, correspondence = random_matching(batch=4)
    correspondence[2:] = -1
    mean_count = (correspondence >= 0).sum() / 2
    parts = [
        matched_consistency(tokens_1[part], tokens_2[part], correspondence[part], mean_count)
        for part in (slice(0, 2), slice(2, 4))
    ]
    torch.testing.assert_close(sum(parts) / 2, matched_consistency(tokens_1, tokens_2, correspondence))


def test_a_count_below_one_is_kept() -> None:
    tokens = torch.ones(1, 2, 1)
    value = matched_consistency(tokens, 0 * tokens, torch.tensor([[0, -1]]), 0.25)
    assert value.item() == pytest.approx(4.0)


def test_normalized_tokens_compare_directions() -> None:
    tokens_1, tokens_2, correspondence = random_matching()
    value = matched_consistency(5 * tokens_1, 0.2 * tokens_2, correspondence, normalize=True)
    unit_1, unit_2 = F.normalize(tokens_1, dim=2), F.normalize(tokens_2, dim=2)
    torch.testing.assert_close(value, loop(unit_1, unit_2, correspondence))


def test_matched_gradient_is_exact() -> None:
    tokens_1, tokens_2, correspondence = random_matching()
    inputs = (tokens_1.double().requires_grad_(), tokens_2.double().requires_grad_(), correspondence)
    assert torch.autograd.gradcheck(matched_consistency, inputs)


def test_matched_keeps_precision_under_autocast() -> None:
    tokens_1, tokens_2, correspondence = random_matching()
    with torch.autocast("cpu", torch.bfloat16):
        value = matched_consistency(tokens_1, tokens_2, correspondence)
    assert value.dtype == torch.float32
    assert value == matched_consistency(tokens_1, tokens_2, correspondence)


def test_matched_makes_one_graph() -> None:
    graph = torch.export.export(_Matched(), random_matching()).graph_module
    assert not any("item" in str(node.target) or "nonzero" in str(node.target) for node in graph.graph.nodes)


class _Matched(torch.nn.Module):
    def forward(self, tokens_1: Tensor, tokens_2: Tensor, correspondence: Tensor) -> Tensor:
        return matched_consistency(tokens_1, tokens_2, correspondence)


def test_matched_says_which_shapes_it_needs() -> None:
    tokens = torch.zeros(2, 6, 3)
    with pytest.raises(ValueError, match=r"tokens_1 and tokens_2 must be .*to_tokens"):
        matched_consistency(tokens, torch.zeros(2, 6, 4), torch.zeros(2, 6, dtype=torch.long))
    with pytest.raises(ValueError, match=r"correspondence must be \(B, N\) = \(2, 6\) .* got \(2, 4\)"):
        matched_consistency(tokens, tokens, torch.zeros(2, 4, dtype=torch.long))
