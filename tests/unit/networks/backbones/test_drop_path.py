"""Stochastic depth: MONAI's numbers in training, nothing in evaluation, and a scripted form."""

from __future__ import annotations

import pytest
import torch
from monai.networks.layers import DropPath

from monai_anat.networks.backbones.drop_path import StochasticDepth, drop_path_rates


def test_training_equals_monai() -> None:
    x = torch.randn(8, 3, 2)
    torch.manual_seed(0)
    expected = DropPath(0.4).train()(x)
    torch.manual_seed(0)
    assert torch.equal(StochasticDepth(0.4).train()(x), expected)
    assert torch.equal(StochasticDepth(0.4).eval()(x), x)


def test_the_scripted_form_is_for_evaluation() -> None:
    x = torch.randn(8, 3)
    scripted = torch.jit.script(StochasticDepth(0.4).eval())
    assert torch.equal(scripted(x), x)
    with pytest.raises(Exception, match="has no stochastic depth"):
        scripted.train()(x)
    assert torch.equal(torch.jit.script(StochasticDepth(0.0)).train()(x), x)


def test_rates_rise_linearly() -> None:
    assert drop_path_rates(0.3, 4) == pytest.approx([0, 0.1, 0.2, 0.3])
    assert drop_path_rates(0.3, 1) == [0]
