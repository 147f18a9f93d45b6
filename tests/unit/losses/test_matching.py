"""The cross-entropy of soft matches equals a hand computation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from monai_anat.losses import matching_cross_entropy


def test_cross_entropy_of_a_hand_computation() -> None:
    logits = torch.tensor([[[0.3, -1.2], [2.0, 0.0]]])
    targets = torch.tensor([[[1.0, 0.25], [0.0, 0.6]]])
    total = 0.0
    for z, y in zip(logits.flatten().tolist(), targets.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-z))
        total += (0.9 * y + 0.1 * (1 - y)) * -(y * math.log(p) + (1 - y) * math.log(1 - p))
    assert matching_cross_entropy(logits, targets, 0.9).item() == pytest.approx(total / 4, rel=1e-6)


def test_an_even_weight_is_half_of_the_plain_cross_entropy() -> None:
    logits, targets = torch.randn(2, 3, 4), torch.rand(2, 3, 4)
    plain = F.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(matching_cross_entropy(logits, targets, 0.5), plain / 2)


def test_hard_matches_are_the_focal_loss_without_focus() -> None:
    logits, targets = torch.randn(2, 3, 4), (torch.rand(2, 3, 4) < 0.3).float()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    expected = torch.where(targets == 1, 0.99 * entropy, 0.01 * entropy).mean()
    torch.testing.assert_close(matching_cross_entropy(logits, targets, 0.99), expected)


def test_without_any_match_it_only_pushes_apart() -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    loss = matching_cross_entropy(logits, torch.zeros(2, 3, 4), 0.9)
    loss.backward()
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert (logits.grad > 0).all()


def test_gradients_are_exact_and_far_logits_finite() -> None:
    targets = torch.rand(1, 3, 4, dtype=torch.float64)
    logits = torch.randn(1, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: matching_cross_entropy(z, targets, 0.9), logits)
    half = matching_cross_entropy(1e4 * torch.randn(1, 3, 4).bfloat16(), targets, 0.9)
    assert half.dtype == torch.float32
    assert torch.isfinite(half)


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the same shape \(B, N, M\), got \(1, 2, 3\) and \(1, 3, 2\)"):
        matching_cross_entropy(torch.zeros(1, 2, 3), torch.zeros(1, 3, 2), 0.9)
    with pytest.raises(ValueError, match=r"positive_weight must be in \[0, 1\], got 1.5"):
        matching_cross_entropy(torch.zeros(1, 2, 3), torch.zeros(1, 2, 3), 1.5)
