"""The order term: its chance level, its convention, and its mean."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from monai_anat.losses import order_cross_entropy


def random_orders(batch: int, cells: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.stack([torch.randperm(cells, generator=generator) for _ in range(batch)])


def test_uniform_scores_cost_the_logarithm_of_the_number_of_cells() -> None:
    value = order_cross_entropy(torch.zeros(2, 196, 196), random_orders(2, 196))
    assert value.item() == pytest.approx(math.log(196), rel=1e-6)


def test_the_class_is_the_original_place_and_not_the_inverse() -> None:
    order = random_orders(2, 16)
    oracle = 50.0 * F.one_hot(order, 16)
    assert order_cross_entropy(oracle, order).item() == pytest.approx(0.0, abs=1e-6)
    assert order_cross_entropy(oracle, order.argsort(1)).item() > 10.0


def test_it_is_the_mean_over_the_samples() -> None:
    logits, order = torch.randn(4, 9, 9, generator=torch.Generator().manual_seed(1)), random_orders(4, 9)
    halves = order_cross_entropy(logits[:2], order[:2]) + order_cross_entropy(logits[2:], order[2:])
    torch.testing.assert_close(order_cross_entropy(logits, order), halves / 2)


def test_batch_order_and_joint_relabeling_change_nothing() -> None:
    logits, order = torch.randn(3, 9, 9, generator=torch.Generator().manual_seed(2)), random_orders(3, 9)
    value = order_cross_entropy(logits, order)
    torch.testing.assert_close(order_cross_entropy(logits.flip(0), order.flip(0)), value)
    torch.testing.assert_close(order_cross_entropy(logits.flip(2), 8 - order), value)


def test_gradient_and_precision() -> None:
    logits, order = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(3)), random_orders(2, 4)
    assert torch.autograd.gradcheck(lambda x: order_cross_entropy(x, order), logits.double().requires_grad_())
    with torch.autocast("cpu", torch.bfloat16):
        value = order_cross_entropy(logits.bfloat16(), order)
    assert value.dtype == torch.float32
    assert value == order_cross_entropy(logits.bfloat16().float(), order)


@pytest.mark.parametrize("shape", [(2, 9, 16), (2, 4, 9), (3, 9, 9), (18, 9)])
def test_it_says_which_shapes_it_needs(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"logits must be \(B, N, N\) and order \(B, N\), got .* as many cells"):
        order_cross_entropy(torch.zeros(shape), random_orders(2, 9))
