"""Variance, invariance, covariance against a loop over dimensions, and what they are worth in known cases."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from monai_anat.losses import variance_covariance, vicreg_covariance, vicreg_invariance, vicreg_variance


def randn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def slow_covariance(z: Tensor) -> Tensor:
    """All pairs of dimensions, one by one."""
    rows, width = z.shape
    deviations = z - z.mean(0)
    total = 0 * z.sum()
    for i in range(width):
        for j in range(width):
            if i != j:
                total = total + ((deviations[:, i] * deviations[:, j]).sum() / (rows - 1)) ** 2
    return total / width


@pytest.mark.parametrize(("rows", "width"), [(4, 9), (9, 4), (5, 5), (2, 7), (3, 1)])
def test_covariance_equals_the_loop_in_either_form(rows: int, width: int) -> None:
    z = randn(rows, width).requires_grad_()
    value, slow = vicreg_covariance(z), slow_covariance(z)
    torch.testing.assert_close(value, slow, rtol=1e-10, atol=1e-12)
    (got,), (expected,) = torch.autograd.grad(value, z), torch.autograd.grad(slow, z)
    torch.testing.assert_close(got, expected, rtol=1e-9, atol=1e-12)
    # the views are added up
    torch.testing.assert_close(vicreg_covariance(z, 2 * z), 17 * slow)


def test_the_gram_form_keeps_float32_precision_at_full_width() -> None:
    z = randn(16, 2048, dtype=torch.float32)
    matrix = torch.cov(z.double().T)
    exact = (matrix.square().sum() - matrix.diagonal().square().sum()) / 2048
    torch.testing.assert_close(vicreg_covariance(z).double(), exact, rtol=1e-5, atol=0)


def test_variance_is_the_hinge_of_each_dimension_and_the_mean_of_the_views() -> None:
    z = randn(8, 3) * torch.tensor([0.2, 0.7, 4.0])
    hinges = [max(0.0, 1 - (float(column.var()) + 1e-4) ** 0.5) for column in z.T]
    assert hinges[2] == 0
    assert vicreg_variance(z).item() == pytest.approx(sum(hinges) / 3, rel=1e-12)
    assert vicreg_variance(z, torch.zeros_like(z)).item() == pytest.approx((sum(hinges) / 3 + 0.99) / 2, rel=1e-12)
    assert vicreg_variance(z, eps=0.25).item() < vicreg_variance(z).item()


def test_a_batch_of_unit_spread_and_no_correlation_costs_nothing() -> None:
    design = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 3**0.5 / 2  # orthogonal, variance 1
    assert vicreg_covariance(design).item() == pytest.approx(0, abs=1e-12)
    assert vicreg_variance(design).item() == 0
    assert variance_covariance(design, design).item() == pytest.approx(0, abs=1e-12)


def test_a_hand_case_of_two_rows() -> None:
    z_1, z_2 = torch.tensor([[1.0, 2.0], [-1.0, -2.0]]), torch.tensor([[0.0, 0.1], [0.0, -0.1]])
    # C of view 1 is ((2, 4), (4, 8)); view 2 has variances 0 and .02
    expected = 25 * (1 + 1.9**2) / 2 + 25 * 0.5 * ((1 - 0.01) + (1 - 0.0201**0.5)) / 2 + (16 + 16) / 2
    assert variance_covariance(z_1, z_2).item() == pytest.approx(expected, rel=1e-6)


def test_the_weights_weigh_the_terms() -> None:
    z_1, z_2 = randn(6, 4), randn(6, 4, seed=1)
    parts = [vicreg_invariance(z_1, z_2), vicreg_variance(z_1, z_2), vicreg_covariance(z_1, z_2)]
    for number, part in enumerate(parts):
        weights = [3.0 if n == number else 0.0 for n in range(3)]
        torch.testing.assert_close(variance_covariance(z_1, z_2, *weights), 3 * part)
    expected = 25 * parts[0] + 25 * parts[1] + parts[2]
    torch.testing.assert_close(variance_covariance(z_1, z_2), expected)
    torch.testing.assert_close(variance_covariance(z_2, z_1), expected)


def test_collapse_is_dear_and_its_gradient_finite() -> None:
    z = torch.ones(4, 8, requires_grad=True)
    loss = variance_covariance(z, z)
    loss.backward()
    assert loss.item() == pytest.approx(25 * 0.99, rel=1e-6)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("shape", [(4, 3), (3, 5)])
def test_gradients(shape: tuple[int, int]) -> None:
    z = (randn(*shape).requires_grad_(), randn(*shape, seed=1).requires_grad_())
    assert torch.autograd.gradcheck(variance_covariance, z)


def test_a_shift_of_the_batch_and_an_order_of_its_rows_change_nothing() -> None:
    z = randn(6, 9)
    for changed in (z + 7.0, z[torch.randperm(6)]):
        torch.testing.assert_close(vicreg_covariance(changed), vicreg_covariance(z))
        torch.testing.assert_close(vicreg_variance(changed), vicreg_variance(z))


def test_one_row_and_other_shapes_are_refused() -> None:
    one = torch.zeros(1, 4)
    for term in (vicreg_variance, vicreg_covariance):
        with pytest.raises(ValueError, match=r"at least 2 rows for each view, got \[\(1, 4\)\].*at least 2 images"):
            term(one)
        with pytest.raises(ValueError, match="at least 2 rows"):
            term()
    with pytest.raises(ValueError, match="at least 2 images"):
        variance_covariance(one, one)
    with pytest.raises(ValueError, match=r"must both be \(B, D\), got \(2, 4\) and \(2, 5\)"):
        vicreg_invariance(torch.zeros(2, 4), torch.zeros(2, 5))
    with pytest.raises(ValueError, match=r"got \[\(2, 4, 4\)\]"):
        vicreg_covariance(torch.zeros(2, 4, 4))
