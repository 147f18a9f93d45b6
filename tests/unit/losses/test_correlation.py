"""Barlow Twins' two terms against the whole matrix, and against MONAI's loss where the two agree."""

from __future__ import annotations

import pytest
import torch
from monai.losses import BarlowTwinsLoss
from torch import Tensor

from monai_anat.losses import correlation_agreement, correlation_redundancy, redundancy_reduction


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def pair(rows: int, width: int) -> tuple[Tensor, Tensor]:
    z = randn(rows, width)
    return z, z + 0.5 * randn(rows, width, seed=1)


def slow_matrix(z_1: Tensor, z_2: Tensor) -> Tensor:
    """Pearson's coefficient of every pair of dimensions."""
    joint = torch.corrcoef(torch.cat([z_1, z_2], 1).T)
    return joint[: z_1.shape[1], z_1.shape[1] :]


@pytest.mark.parametrize(("rows", "width"), [(4, 9), (9, 4), (5, 5), (3, 1)])
def test_the_terms_equal_pearsons_coefficients_in_either_form(rows: int, width: int) -> None:
    z_1, z_2 = pair(rows, width)
    matrix = slow_matrix(z_1, z_2)
    diagonal = matrix.diagonal()
    agreement, redundancy = (1 - diagonal).square().sum(), matrix.square().sum() - diagonal.square().sum()
    torch.testing.assert_close(correlation_agreement(z_1, z_2), agreement, rtol=1e-3, atol=1e-4)  # eps under the root
    torch.testing.assert_close(correlation_redundancy(z_1, z_2), redundancy, rtol=1e-3, atol=1e-4)
    total = redundancy_reduction(z_1, z_2)
    torch.testing.assert_close(total, correlation_agreement(z_1, z_2) + 0.005 * correlation_redundancy(z_1, z_2))
    weighted = redundancy_reduction(z_1, z_2, redundancy_weight=2.0)
    torch.testing.assert_close(weighted - total, 1.995 * correlation_redundancy(z_1, z_2))


@pytest.mark.parametrize(("rows", "width"), [(32, 64), (64, 16)])
def test_monais_loss_is_ours_with_its_factor_on_the_matrix(rows: int, width: int) -> None:
    z_1, z_2 = pair(rows, width)
    factor = (rows - 1) / rows  # unbiased deviations, and a division by B
    diagonal = slow_matrix(z_1, z_2).diagonal()
    off = correlation_redundancy(z_1, z_2) * factor**2
    expected = (1 - factor * diagonal).square().sum() + 0.005 * off
    torch.testing.assert_close(BarlowTwinsLoss(lambd=0.005)(z_1, z_2), expected, rtol=1e-4, atol=1e-5)


def test_equal_views_cost_nothing_here_and_d_over_b_squared_in_monai() -> None:
    z = randn(32, 64)
    assert correlation_agreement(z, z).item() == pytest.approx(0, abs=1e-6)
    monai = BarlowTwinsLoss(lambd=0.0)(z, z)
    assert monai.item() == pytest.approx(64 / 32**2, rel=1e-3)


def test_an_orthogonal_design_has_no_redundancy() -> None:
    design = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])
    assert redundancy_reduction(design, 3 * design + 7).item() == pytest.approx(0, abs=1e-6)
    assert correlation_redundancy(design, design[:, [1, 0, 2]]).item() == pytest.approx(2, rel=1e-4)


def test_scale_and_shift_of_a_dimension_change_nothing() -> None:
    z_1, z_2 = pair(6, 9)
    changed = z_1 * torch.linspace(1, 5, 9, dtype=torch.float64) + 3
    torch.testing.assert_close(redundancy_reduction(changed, z_2), redundancy_reduction(z_1, z_2), rtol=1e-4, atol=0)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
def test_gradients_and_those_of_a_collapsed_batch(shape: tuple[int, int]) -> None:
    z_1, z_2 = (z.requires_grad_() for z in pair(*shape))
    assert torch.autograd.gradcheck(redundancy_reduction, (z_1, z_2))
    constant = torch.ones(*shape, requires_grad=True)
    loss = redundancy_reduction(constant, constant)
    loss.backward()
    assert loss.item() == shape[1]
    assert torch.isfinite(constant.grad).all()


def test_one_row_and_other_shapes_are_refused() -> None:
    for wrong in ((torch.zeros(1, 4),) * 2, (torch.zeros(2, 4), torch.zeros(2, 5)), (torch.zeros(2, 4, 4),) * 2):
        with pytest.raises(ValueError, match=r"at least 2 rows, got .*at least 2 images"):
            redundancy_reduction(*wrong)
