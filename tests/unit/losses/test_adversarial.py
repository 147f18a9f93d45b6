"""The two sides of the game with a discriminator."""

from __future__ import annotations

from math import log

import pytest
import torch
from monai.losses import PatchAdversarialLoss

from monai_anat.losses import discriminator_loss, generator_loss


@pytest.mark.parametrize("criterion", ["least_squares", "bce"])
def test_the_values_are_those_of_monais_loss(criterion: str) -> None:
    real, restored = torch.randn(2, 3, 1, 5, 5)
    monai = PatchAdversarialLoss(criterion=criterion, no_activation_leastsq=True)
    generator = monai(restored, target_is_real=True, for_discriminator=False)
    discriminator = [monai(x, target_is_real=y, for_discriminator=True) for x, y in ((real, True), (restored, False))]
    torch.testing.assert_close(generator_loss(restored, criterion), generator)
    torch.testing.assert_close(discriminator_loss(real, restored, criterion), sum(discriminator) / 2)


def test_a_discriminator_that_cannot_tell() -> None:
    half, none = torch.full((2, 1, 3, 3), 0.5), torch.zeros(2, 1, 3, 3)
    assert generator_loss(half).item() == discriminator_loss(half, half).item() == 0.25
    assert generator_loss(none, "bce").item() == pytest.approx(log(2))
    assert discriminator_loss(none, none, "bce").item() == pytest.approx(log(2))


@pytest.mark.parametrize("criterion", ["least_squares", "bce"])
def test_the_two_pull_in_opposite_directions(criterion: str) -> None:
    scores = torch.zeros(1, 1, 2, 2, requires_grad=True)
    (up,) = torch.autograd.grad(generator_loss(scores, criterion), scores)
    assert (up < 0).all()  # descent raises the scores
    raised = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    real = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
    down, also_up = torch.autograd.grad(discriminator_loss(real, raised, criterion), (raised, real))
    assert (down > 0).all() and (also_up < 0).all()


def test_the_best_of_each_side_is_zero() -> None:
    assert generator_loss(torch.ones(1, 1, 2, 2)).item() == 0
    assert discriminator_loss(torch.ones(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)).item() == 0
    sure = torch.full((1, 1, 2, 2), 200.0)
    assert generator_loss(sure, "bce").item() == discriminator_loss(sure, -sure, "bce").item() == 0
    assert torch.isfinite(generator_loss(-sure, "bce"))


def test_gradients_are_right() -> None:
    real, restored = torch.randn(2, 2, 1, 3, 3, dtype=torch.float64).unbind()
    for criterion in ("least_squares", "bce"):
        torch.autograd.gradcheck(lambda x, c=criterion: generator_loss(x, c), (restored.requires_grad_(),))
        torch.autograd.gradcheck(
            lambda x, y, c=criterion: discriminator_loss(x, y, c), (real.requires_grad_(), restored.requires_grad_())
        )


def test_another_criterion_is_refused() -> None:
    with pytest.raises(ValueError, match=r'criterion must be "least_squares" or "bce", got \'hinge\''):
        generator_loss(torch.zeros(1), "hinge")  # type: ignore[arg-type]
