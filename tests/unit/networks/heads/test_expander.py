"""The expander: its layers, and that the last normalization and the biases are arguments."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.networks.heads.global_batch_norm import GlobalBatchNorm


def test_layout_of_vicreg() -> None:
    head = ExpanderHead(6, 4, (8, 5))
    kinds = [type(m).__name__ for m in head]
    assert kinds == ["Linear", "GlobalBatchNorm", "ReLU", "Linear", "GlobalBatchNorm", "ReLU", "Linear"]
    assert [m.bias is None for m in head if isinstance(m, nn.Linear)] == [False, False, True]
    assert (head.in_features, head.out_features) == (6, 4)
    assert ExpanderHead(6, 4)[3].weight.shape == (4, 4)
    assert len(ExpanderHead(6, 4, ())) == 1


def test_layout_of_mlvicx_and_of_barlow_twins() -> None:
    head = ExpanderHead(6, 4, final_norm=True)
    assert isinstance(head[-1], GlobalBatchNorm)
    assert head[-2].bias is not None
    bare = ExpanderHead(6, 4, bias=False)
    assert all(m.bias is None for m in bare if isinstance(m, nn.Linear))


def test_the_last_normalization_gives_zero_mean_and_unit_variance() -> None:
    torch.manual_seed(0)
    out = ExpanderHead(6, 4, (32,), final_norm=True)(torch.randn(64, 6))
    torch.testing.assert_close(out.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.var(0, correction=0), torch.ones(4), atol=1e-3, rtol=0)


def test_without_running_statistics_evaluation_normalizes_by_the_batch() -> None:
    torch.manual_seed(0)
    head, rows = ExpanderHead(6, 4, (8,), final_norm=True, running_statistics=False).eval(), 3 + torch.randn(64, 6)
    assert not list(head.buffers())
    torch.testing.assert_close(head(rows).mean(0), torch.zeros(4), atol=1e-5, rtol=0)


def test_a_width_of_0_is_refused() -> None:
    with pytest.raises(ValueError, match=r"at least 1, got \(6, 0, 0, 0\)"):
        ExpanderHead(6, 0)
