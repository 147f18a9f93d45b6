"""Soft positional contrast: slow formula, limits, invariances, gradients and error messages."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.losses import soft_positional_contrast


def inputs(queries: int = 6, keys: int = 9, width: int = 5) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query = F.normalize(torch.randn(queries, width, generator=generator, dtype=torch.float64), dim=1)
    key = F.normalize(torch.randn(keys, width, generator=generator, dtype=torch.float64), dim=1)
    positions = torch.rand(keys, 2, generator=generator, dtype=torch.float64)
    match = torch.randperm(keys, generator=generator)[:queries]
    match[1] = -1
    return query, key, positions, match


def slow(query: Tensor, key: Tensor, positions: Tensor, match: Tensor, tau: float, sigma: float) -> float:
    losses = []
    for i, a in enumerate(match.tolist()):
        if a < 0:
            continue
        positive = float(query[i] @ key[a]) / tau
        total = math.exp(positive)
        for j in range(len(key)):
            if j != a:
                distance = float(((positions[a] - positions[j]) ** 2).sum())
                weight = 1 - math.exp(-distance / (2 * sigma**2))
                total += weight * math.exp(float(query[i] @ key[j]) / tau)
        losses.append(math.log(total) - positive)
    return sum(losses) / len(losses)


@pytest.mark.parametrize(("tau", "sigma"), [(0.2, 0.06), (0.1, 0.3), (1.0, 0.01)])
def test_it_equals_the_slow_formula(tau: float, sigma: float) -> None:
    loss = soft_positional_contrast(*inputs(), tau, sigma)
    assert loss.item() == pytest.approx(slow(*inputs(), tau, sigma), rel=1e-10)


def test_a_vanishing_sigma_is_info_nce_and_a_vast_one_has_no_negatives() -> None:
    query, key, positions, match = inputs()
    valid = match >= 0
    expected = F.cross_entropy((query @ key.T / 0.2)[valid], match[valid])
    torch.testing.assert_close(soft_positional_contrast(query, key, positions, match, 0.2, 1e-7), expected)
    assert soft_positional_contrast(query, key, positions, match, 0.2, 1e6).item() == pytest.approx(0, abs=1e-8)


def test_equal_embeddings_cost_the_logarithm_of_the_weights() -> None:
    ones, positions = torch.ones(1, 1), torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.06, 0.0], [1.0, 1.0]])
    loss = soft_positional_contrast(ones, ones.expand(4, 1), positions, torch.tensor([0]), 0.2, 0.06)
    assert loss.item() == pytest.approx(math.log(1 + 0 + 1 - math.exp(-0.5) + 1), abs=1e-5)


def test_a_common_shift_and_the_order_of_the_keys_do_not_matter() -> None:
    query, key, positions, match = inputs()
    loss = soft_positional_contrast(query, key, positions, match)
    torch.testing.assert_close(soft_positional_contrast(query, key, positions + 0.3, match), loss)
    order = torch.randperm(len(key), generator=torch.Generator().manual_seed(1))
    moved = torch.where(match >= 0, order.argsort()[match.clamp(min=0)], -1)
    torch.testing.assert_close(soft_positional_contrast(query, key[order], positions[order], moved), loss)


def test_keys_get_no_gradient_and_no_match_gives_zero_with_a_graph() -> None:
    query, key, positions, match = inputs()
    query.requires_grad_(), key.requires_grad_()
    soft_positional_contrast(query, key, positions, match).backward()
    assert key.grad is None and query.grad[0].abs().max() > 0 and query.grad[1].abs().max() == 0
    nothing = soft_positional_contrast(query, key, positions, torch.full_like(match, -1))
    assert nothing.item() == 0
    query.grad = None
    nothing.backward()
    assert torch.equal(query.grad, torch.zeros_like(query))


def test_the_denominator_may_be_given() -> None:
    loss = soft_positional_contrast(*inputs())
    torch.testing.assert_close(soft_positional_contrast(*inputs(), denominator=10), loss / 2)


def test_misfits_are_refused() -> None:
    query, key, positions, match = inputs()
    with pytest.raises(ValueError, match=r"query must be \(M, D\), keys \(K, D\), .*got \(6, 5\), \(9, 5\), \(8, 2\)"):
        soft_positional_contrast(query, key, positions[:8], match)
    with pytest.raises(ValueError, match=r"temperature and sigma must be positive, got 0.2 and 0"):
        soft_positional_contrast(query, key, positions, match, 0.2, 0)
