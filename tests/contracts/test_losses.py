"""What every loss term keeps: a differentiable float32 scalar that is 0 or more, also under autocast, and never NaN.

A new public function of ``monai_anat.losses`` adds its arguments to ``CASES``.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat import losses

#: what helps a loss and is none
HELPERS = {"distinct_pairs"}
FUNCTIONS = {
    name: f for name in losses.__all__ if inspect.isfunction(f := getattr(losses, name)) and name not in HELPERS
}


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


CASES: dict[str, Callable[[], tuple[Any, ...]]] = {
    "batch_info_nce": lambda: (
        F.normalize(randn(3, 8)),
        F.normalize(randn(6, 8, seed=1)),
        torch.tensor([0, 2, 4]),
        0.2,
    ),
    "composition_distance": lambda: (randn(3, 8), randn(3, 8, seed=1)),
    "decomposition_distance": lambda: (randn(3, 4, 8), randn(3, 4, 8, seed=1)),
    "multi_view_distillation": lambda: (
        randn(3, 2, 8),
        randn(2, 2, 8, seed=1),
        randn(8, seed=2),
        0.1,
        0.04,
        [(0, 1), (1, 2)],
    ),
    "correlation_agreement": lambda: (randn(4, 8), randn(4, 8, seed=1)),
    "correlation_redundancy": lambda: (randn(4, 8), randn(4, 8, seed=1)),
    "redundancy_reduction": lambda: (randn(4, 8), randn(4, 8, seed=1)),
    "vicreg_covariance": lambda: (randn(4, 8), randn(4, 8, seed=1)),
    "vicreg_invariance": lambda: (randn(4, 8), randn(4, 8, seed=1)),
    "vicreg_variance": lambda: (0.5 * randn(4, 8), 0.5 * randn(4, 8, seed=1)),
    "variance_covariance": lambda: (randn(4, 8), randn(4, 8, seed=1)),
    "discriminator_loss": lambda: (randn(2, 1, 4, 4), randn(2, 1, 4, 4, seed=1)),
    "generator_loss": lambda: (randn(2, 1, 4, 4),),
    "global_consistency": lambda: (randn(3, 8), randn(3, 8, seed=1)),
    "label_cross_entropy": lambda: (randn(2, 3), torch.tensor([[1.0, 0.2, 0.0], [0.0, 1.0, 0.0]])),
    "masked_cross_entropy": lambda: (
        randn(2, 4, 6),
        torch.tensor([[0, 5, 3, 1], [2, 2, 4, 0]]),
        torch.tensor([[True, False, True, True], [False] * 4]),
    ),
    "masked_l1": lambda: (
        randn(2, 4, 6),
        randn(2, 4, 6, seed=1),
        torch.tensor([[True, False, True, True], [False] * 4]),
    ),
    "masked_patch_mse": lambda: (
        randn(2, 4, 6),
        randn(2, 4, 6, seed=1),
        torch.tensor([[True, False, True, True], [False] * 4]),
    ),
    "matched_consistency": lambda: (randn(2, 4, 8), randn(2, 4, 8, seed=1), torch.tensor([[1, -1, 0, 3], [-1] * 4])),
    "matching_cross_entropy": lambda: (randn(2, 3, 4), randn(2, 3, 4, seed=1).sigmoid(), 0.9),
    "order_cross_entropy": lambda: (randn(2, 4, 4), torch.tensor([[0, 1, 2, 3], [3, 0, 1, 2]])),
    "pruned_info_nce": lambda: (
        F.normalize(randn(3, 8)),
        F.normalize(randn(3, 8, seed=1)),
        F.normalize(randn(6, 8, seed=2)),
        0.2,
        0.5,
    ),
    "restoration_mse": lambda: (randn(2, 1, 6, 6), randn(2, 1, 6, 6, seed=1)),
    "self_distillation": lambda: (randn(3, 8), randn(3, 8, seed=1), randn(8, seed=2), 0.1, 0.04),
    "smooth_l1": lambda: (
        randn(2, 4, 8),
        randn(2, 4, 8, seed=1),
        torch.tensor([[True, False, True, True], [False] * 4]),
    ),
    "soft_positional_contrast": lambda: (
        F.normalize(randn(3, 8)),
        F.normalize(randn(6, 8, seed=1)),
        torch.rand(6, 2, generator=torch.Generator().manual_seed(2)),
        torch.tensor([0, 2, -1]),
    ),
    "token_whitening": lambda: (0.5 * randn(8, 4),),
}


def test_every_public_function_has_a_case() -> None:
    assert set(CASES) == set(FUNCTIONS)


@pytest.fixture(params=sorted(CASES))
def term(request: pytest.FixtureRequest) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
    return FUNCTIONS[request.param], CASES[request.param]()


def is_float(argument: Any) -> bool:
    return isinstance(argument, Tensor) and argument.is_floating_point()


def with_gradient(arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """Copies, of which floats require a gradient; numbers stay as they are."""
    return tuple(a.clone().requires_grad_(is_float(a)) if isinstance(a, Tensor) else a for a in arguments)


def gradients_of(arguments: tuple[Any, ...]) -> list[Tensor]:
    """Of those that have one: no term has a gradient into its teacher's side."""
    return [a.grad for a in arguments if is_float(a) and a.grad is not None]


def test_it_is_a_non_negative_scalar_with_finite_gradients(term: tuple[Callable[..., Tensor], tuple[Any, ...]]) -> None:
    function, arguments = term[0], with_gradient(term[1])
    value = function(*arguments)
    assert value.shape == ()
    assert value >= 0
    value.backward()
    gradients = gradients_of(arguments)
    assert all(torch.isfinite(g).all() for g in gradients)
    assert any(g.abs().max() > 0 for g in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_it_is_at_least_float32(term: tuple[Callable[..., Tensor], tuple[Any, ...]], dtype: torch.dtype) -> None:
    function, arguments = term
    value = function(*(a.to(dtype) if is_float(a) else a for a in arguments))
    assert value.dtype == torch.promote_types(dtype, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        under = function(*(a.to(dtype) if is_float(a) else a for a in arguments))
    assert under.dtype in (torch.float32, torch.float64)
    torch.testing.assert_close(under, value, check_dtype=False)


def test_it_stays_finite_on_zeros(term: tuple[Callable[..., Tensor], tuple[Any, ...]]) -> None:
    function, arguments = term
    zeros = with_gradient(tuple(torch.zeros_like(a) if is_float(a) else a for a in arguments))
    value = function(*zeros)
    value.backward()
    assert torch.isfinite(value)
    assert all(torch.isfinite(gradient).all() for gradient in gradients_of(zeros))


def test_inputs_stay_untouched_and_repeats_agree(term: tuple[Callable[..., Tensor], tuple[Any, ...]]) -> None:
    function, arguments = term
    before = tuple(a.clone() if isinstance(a, Tensor) else a for a in arguments)
    first, second = function(*arguments), function(*arguments)
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(arguments, before, strict=True) if isinstance(a, Tensor))
