from __future__ import annotations

import math

import pytest
import torch

from monai_anat.networks.backbones import attention


def slow(query, key, value, bias):
    out = torch.empty_like(value)
    for b in range(query.shape[0]):
        for h in range(query.shape[1]):
            for i in range(query.shape[2]):
                scores = torch.stack([query[b, h, i] @ key[b, h, j] for j in range(key.shape[2])]) / math.sqrt(8)
                scores = scores + (bias[b % len(bias), h, i] if bias is not None else 0)
                out[b, h, i] = scores.softmax(0) @ value[b, h]
    return out


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_both_forms_are_the_formula(with_bias, training):
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 8, dtype=torch.float64) for _ in range(3))
    bias = torch.randn(1, 3, 5, 5, dtype=torch.float64) if with_bias else None
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(attention.attend(query, key, value, bias), slow(query, key, value, bias))


def test_gradients_of_both_forms_agree(monkeypatch):
    torch.manual_seed(0)
    parts = [torch.randn(2, 2, 6, 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    explicit = torch.autograd.grad(attention.attend(*parts).square().sum(), parts)
    monkeypatch.setattr(attention, "_EXPLICIT_TOKENS", 0)
    fused = torch.autograd.grad(attention.attend(*parts).square().sum(), parts)
    for a, b in zip(explicit, fused, strict=True):
        torch.testing.assert_close(a, b)


def test_half_precision_stays_half_and_close():
    torch.manual_seed(0)
    parts = [torch.randn(2, 2, 6, 8, requires_grad=True) for _ in range(3)]
    half = attention.attend(*(part.bfloat16() for part in parts))
    assert half.dtype is torch.bfloat16
    torch.testing.assert_close(half.float(), attention.attend(*parts), rtol=0.05, atol=0.05)
