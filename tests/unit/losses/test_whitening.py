"""Whitening of tokens: slow formula, constant tokens, weight of the covariance."""

from __future__ import annotations

import pytest
import torch

from monai_anat.losses import token_whitening


def test_it_equals_the_slow_formula() -> None:
    tokens = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 0.5
    covariance = torch.cov(tokens.T)
    variance = (1 - (covariance.diag() + 1e-4).sqrt()).clamp(min=0).mean()
    off = covariance.square().sum() - covariance.diag().square().sum()
    torch.testing.assert_close(token_whitening(tokens), variance + 0.04 * off / 4)
    torch.testing.assert_close(token_whitening(tokens, 0.0), variance)


def test_constant_tokens_cost_nearly_one_and_spread_ones_nothing() -> None:
    assert token_whitening(torch.ones(8, 3)).item() == pytest.approx(0.99)
    corners = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    assert token_whitening(corners).item() == pytest.approx(0, abs=1e-6)
