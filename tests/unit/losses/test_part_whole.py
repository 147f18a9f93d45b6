"""Composition and decomposition: distances between directions, each part by itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.losses import composition_distance, decomposition_distance, global_consistency


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


PREDICTIONS = [(composition_distance, (5, 8)), (decomposition_distance, (5, 4, 8))]


@pytest.mark.parametrize(("distance", "shape"), PREDICTIONS)
def test_it_is_two_minus_two_cosines_whatever_the_lengths(distance: Callable[..., Tensor], shape: tuple[int]) -> None:
    predicted, target = random(*shape), random(*shape, seed=1)
    expected = (2 - 2 * F.cosine_similarity(predicted, target, dim=-1)).mean()
    torch.testing.assert_close(distance(predicted, target), expected)
    lengths = random(*shape[:-1], 1, seed=2).exp()
    torch.testing.assert_close(distance(predicted * lengths, target * lengths.flip(0)), expected)


@pytest.mark.parametrize(("distance", "shape"), PREDICTIONS)
def test_zero_at_agreement_and_at_most_four(distance: Callable[..., Tensor], shape: tuple[int]) -> None:
    target = random(*shape)
    assert distance(3 * target, target).item() == pytest.approx(0.0, abs=1e-12)
    assert distance(-target, target).item() == pytest.approx(4.0)
    assert distance(torch.zeros_like(target), target).item() == pytest.approx(1.0)  # and no NaN


@pytest.mark.parametrize(("distance", "shape"), PREDICTIONS)
def test_the_mean_form_is_the_sum_form_over_the_width(distance: Callable[..., Tensor], shape: tuple[int]) -> None:
    predicted, target = random(*shape), random(*shape, seed=1)
    mean = distance(predicted, target, reduction="mean")
    torch.testing.assert_close(8 * mean, distance(predicted, target))
    assert mean < 4 / 8
    with pytest.raises(ValueError, match=r'reduction must be "sum" or "mean".*got \'none\''):
        distance(predicted, target, reduction="none")


@pytest.mark.parametrize(("distance", "shape"), PREDICTIONS)
def test_only_the_prediction_learns(distance: Callable[..., Tensor], shape: tuple[int]) -> None:
    predicted, target = random(*shape).requires_grad_(), random(*shape, seed=1).requires_grad_()
    distance(predicted, target).backward()
    assert target.grad is None
    assert predicted.grad is not None
    assert torch.autograd.gradcheck(lambda x: distance(x, target), (predicted,))


def test_a_composition_is_a_global_consistency() -> None:
    composed, whole = random(5, 8), random(5, 8, seed=1)
    torch.testing.assert_close(composition_distance(composed, whole), global_consistency(composed, whole))


def test_each_part_has_unit_length_by_itself() -> None:
    """One length for all parts together would leave a perfect prediction a rest, and let one part drown the others."""
    parts = F.normalize(random(2, 4, 2048), dim=2)
    together = F.normalize(parts.flatten(1), dim=1).unflatten(1, (4, 2048))
    assert (together - parts).square().mean().item() == pytest.approx(1.2207e-4, rel=1e-4)
    assert decomposition_distance(parts, parts, reduction="mean").item() == pytest.approx(0.0, abs=1e-12)
    assert decomposition_distance(parts * torch.tensor([1.0, 10, 100, 1000])[:, None], parts).item() < 1e-12


def test_the_order_of_the_parts_matters() -> None:
    parts = random(2, 4, 8)
    assert decomposition_distance(parts[:, [0, 2, 1, 3]], parts) > 0.1


def test_half_precision_is_compared_in_float32() -> None:
    predicted, target = random(2, 4, 64).bfloat16(), random(2, 4, 64, seed=1).bfloat16()
    value = decomposition_distance(predicted, target)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, decomposition_distance(predicted.float(), target.float()))


def test_misfits_are_refused() -> None:
    with pytest.raises(ValueError, match=r"composed and whole must both be \(B, D\), got \(2, 4, 8\)"):
        composition_distance(random(2, 4, 8), random(2, 4, 8))
    with pytest.raises(ValueError, match=r"decomposed and parts must both be \(B, P, D\), got \(2, 32\)"):
        decomposition_distance(random(2, 32), random(2, 4, 8))
    with pytest.raises(ValueError, match=r"got \(2, 3, 8\) and \(2, 4, 8\)"):
        decomposition_distance(random(2, 3, 8), random(2, 4, 8))
