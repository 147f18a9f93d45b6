"""The restoration term: a mean of squares, never broadcast, float32 under autocast."""

from __future__ import annotations

import pytest
import torch

from monai_anat.losses import restoration_mse


@pytest.mark.parametrize("shape", [(2, 1, 6, 8), (2, 1, 4, 6, 8)])
def test_it_is_the_mean_square_over_all_pixels(shape: tuple[int, ...]) -> None:
    restored, target = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(restoration_mse(restored, target), (restored - target).square().mean())
    assert restoration_mse(target, target) == 0.0


def test_gradient_and_precision() -> None:
    restored, target = torch.randn(2, 1, 1, 3, 3, generator=torch.Generator().manual_seed(1))
    assert torch.autograd.gradcheck(restoration_mse, (restored.double().requires_grad_(), target.double()))
    with torch.autocast("cpu", torch.bfloat16):
        value = restoration_mse(restored.bfloat16(), target)
    assert value.dtype == torch.float32
    assert value == restoration_mse(restored.bfloat16().float(), target)


def test_shapes_are_not_broadcast() -> None:
    with pytest.raises(ValueError, match=r"one shape, got \(1, 1, 4, 4\) and \(1, 3, 4, 4\); check cell_size"):
        restoration_mse(torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 4, 4))
