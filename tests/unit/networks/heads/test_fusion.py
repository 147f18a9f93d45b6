"""Pooling before projecting: the same numbers as the long way round."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from monai_anat.networks.heads.fusion import FusionHead, pool_resized

SIDES = [(32, 32), (16, 16), (8, 8), (7, 9), (3, 3), (1, 1)]


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize(("resized", "pooled"), [(64, 4), (16, 4), (12, 5)])
def test_it_equals_resizing_and_then_pooling(sides: tuple[int, int], resized: int, pooled: int) -> None:
    feature_map = randn(2, 3, *sides)
    large = F.interpolate(feature_map, (resized, resized), mode="bilinear", align_corners=False)
    expected = F.adaptive_avg_pool2d(large, pooled)
    torch.testing.assert_close(pool_resized(feature_map, resized, pooled), expected, rtol=1e-5, atol=1e-5)


def test_a_constant_stays_and_double_precision_too() -> None:
    constant = torch.full((1, 2, 9, 5), 3.0, dtype=torch.float64)
    torch.testing.assert_close(pool_resized(constant, 64, 4), torch.full((1, 2, 4, 4), 3.0, dtype=torch.float64))
    channels_last = randn(2, 8, 6, 6).to(memory_format=torch.channels_last)
    torch.testing.assert_close(pool_resized(channels_last, 16, 4), pool_resized(channels_last.contiguous(), 16, 4))


def test_pool_first_equals_upsample_first_with_bias_and_gradients() -> None:
    torch.manual_seed(0)
    head = FusionHead((4, 6, 8), 10, fused_channels=5).eval()
    maps = [randn(3, 4, 28, 28), randn(3, 6, 14, 14, seed=1), randn(3, 8, 7, 7, seed=2)]
    fused = sum(
        projection(F.interpolate(m, (64, 64), mode="bilinear", align_corners=False))
        for projection, m in zip(head.projections, maps, strict=True)
    )
    slow = F.adaptive_avg_pool2d(fused, 4).flatten(1)  # channel-major
    quick = head.fuse(maps)
    torch.testing.assert_close(quick, slow, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(head(maps), head.expander(slow), rtol=1e-5, atol=1e-5)
    parameters = list(head.projections.parameters())
    for got, expected in zip(
        torch.autograd.grad(quick.square().sum(), parameters),
        torch.autograd.grad(slow.square().sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_every_map_has_a_say_and_all_projections_are_parameters() -> None:
    torch.manual_seed(0)
    head = FusionHead((4, 6), 10, fused_channels=5, fused_size=16, pooled_size=2)
    maps = [randn(3, 4, 8, 8), randn(3, 6, 4, 4, seed=1)]
    for number in range(2):
        changed = [m + 1.0 if n == number else m for n, m in enumerate(maps)]
        assert (head.fuse(changed) - head.fuse(maps)).abs().max() > 0.01
    assert {"projections.0.weight", "projections.1.bias"} <= dict(head.named_parameters()).keys()
    with pytest.raises(ValueError, match=r"maps must be 2 feature maps, got 1"):
        head(maps[:1])


@pytest.mark.parametrize(
    "wrong",
    [{"in_channels": ()}, {"fused_channels": 0}, {"pooled_size": 65}, {"pooled_size": 0}, {"in_channels": (0,)}],
)
def test_sizes_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="pooled_size lie between 1 and fused_size"):
        FusionHead(**{"in_channels": (4,), "out_features": 8, **wrong})
