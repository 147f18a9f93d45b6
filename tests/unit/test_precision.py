from __future__ import annotations

import pytest
import torch

from monai_anat.precision import at_least_float32, same_precision


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
        (torch.int64, torch.float32),
    ],
)
def test_half_precision_is_widened_and_nothing_narrowed(given, wanted):
    x = torch.arange(3).to(given)
    assert at_least_float32(x).dtype is wanted
    assert at_least_float32(x).tolist() == [0, 1, 2]


def test_the_gradient_comes_back_in_the_given_precision():
    x = torch.ones(2, dtype=torch.bfloat16, requires_grad=True)
    at_least_float32(x).sum().backward()
    assert x.grad.dtype is torch.bfloat16


def test_one_precision_is_the_widest_and_single_at_least():
    half, single, double = (torch.ones(2, dtype=kind) for kind in (torch.bfloat16, torch.float32, torch.float64))
    assert [x.dtype for x in same_precision(half, half)] == [torch.float32] * 2
    assert [x.dtype for x in same_precision(half, single, double)] == [torch.float64] * 3
    assert same_precision(single)[0] is single
