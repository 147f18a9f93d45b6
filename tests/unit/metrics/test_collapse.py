"""Collapse shows as few directions or little spread, and nothing else does."""

from __future__ import annotations

import pytest
import torch

from monai_anat.metrics import effective_rank, feature_spread


def gaussian(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rank", [1, 2, 5, 16])
def test_equal_directions_count_one_each(rank: int) -> None:
    basis = torch.linalg.qr(gaussian(32, 32))[0][:rank]
    embeddings = torch.cat([basis, -basis])
    assert effective_rank(embeddings) == pytest.approx(rank, abs=1e-4)


def test_rank_ignores_scale_rotation_and_order() -> None:
    embeddings = gaussian(40, 12) * torch.linspace(0.1, 3, 12)
    rotation = torch.linalg.qr(gaussian(12, 12, seed=1))[0]
    expected = effective_rank(embeddings)
    changed = (7 * embeddings @ rotation)[torch.randperm(40, generator=torch.Generator().manual_seed(2))]
    assert effective_rank(changed) == pytest.approx(expected, rel=1e-4)
    assert 1 < expected < 12


def test_rank_by_hand_with_unequal_directions() -> None:
    embeddings = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    share = torch.tensor([0.75, 0.25])
    assert effective_rank(embeddings) == pytest.approx(float(torch.exp(-(share * share.log()).sum())), abs=1e-5)


def test_a_shared_component_does_not_count_unless_asked() -> None:
    embeddings = gaussian(64, 16) + 100.0
    assert effective_rank(embeddings) > 12
    assert effective_rank(embeddings, center=False) < 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_equal_embeddings_have_no_rank_and_no_spread(dtype: torch.dtype) -> None:
    embeddings = (gaussian(1, 384) * 3).to(dtype).expand(50, -1)
    assert effective_rank(embeddings) == 0.0
    assert feature_spread(embeddings) == pytest.approx(0.0, abs=1e-6)


def test_spread_falls_with_a_shared_component_and_ignores_length() -> None:
    embeddings = gaussian(512, 64)
    assert feature_spread(embeddings) == pytest.approx(1.0, abs=0.02)
    assert feature_spread(embeddings + 10) < 0.15
    lengths = torch.linspace(0.1, 10, 512)[:, None]
    assert feature_spread(embeddings * lengths) == pytest.approx(feature_spread(embeddings), rel=1e-4)


@pytest.mark.parametrize("measure", [effective_rank, feature_spread])
def test_wrong_input_is_named(measure) -> None:
    with pytest.raises(ValueError, match=r"\(N, D\).*got shape \(2, 3, 4\)"):
        measure(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match="finite"):
        measure(torch.full((2, 2), float("nan")))
