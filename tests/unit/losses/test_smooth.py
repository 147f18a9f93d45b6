"""The smooth L1 distance: its formula, what counts, and misuse."""

from __future__ import annotations

import pytest
import torch

from monai_anat.losses.smooth import smooth_l1


def test_it_is_quadratic_near_0_and_linear_beyond_1() -> None:
    difference = torch.tensor([0.0, 0.5, 1.0, 3.0])[:, None]
    for d in difference:
        expected = d**2 / 2 if d < 1 else d - 0.5
        assert smooth_l1(d[None], torch.zeros(1, 1)).item() == pytest.approx(float(expected))


def test_only_what_counts_is_in_the_mean() -> None:
    torch.manual_seed(0)
    predicted, target = torch.randn(2, 5, 3, requires_grad=True), torch.randn(2, 5, 3)
    counted = torch.tensor([[1, 0, 0, 1, 0], [0, 0, 1, 0, 0]], dtype=torch.bool)
    value = smooth_l1(predicted, target, counted)
    torch.testing.assert_close(value, smooth_l1(predicted[counted], target[counted]))
    changed = target + 9 * (~counted)[:, :, None]
    assert torch.equal(smooth_l1(predicted, changed, counted), value)
    value.backward()
    assert torch.equal(predicted.grad.abs().sum(2) > 0, counted)
    torch.testing.assert_close(smooth_l1(predicted, target, torch.ones_like(counted)), smooth_l1(predicted, target))


def test_nothing_that_counts_is_0_with_a_gradient_path() -> None:
    predicted = torch.ones(1, 2, 3, requires_grad=True)
    value = smooth_l1(predicted, torch.zeros(1, 2, 3), torch.zeros(1, 2, dtype=torch.bool))
    value.backward()
    assert value == 0
    assert predicted.grad.abs().max() == 0


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"the same shape, got \(2, 3\) and \(2, 4\)"):
        smooth_l1(torch.ones(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"counted must be \(2,\), .* got \(3,\)"):
        smooth_l1(torch.ones(2, 3), torch.ones(2, 3), torch.ones(3, dtype=torch.bool))
