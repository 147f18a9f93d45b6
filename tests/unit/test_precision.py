from __future__ import annotations

import pytest
import torch

from monai_anat.precision import at_least_float32


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
