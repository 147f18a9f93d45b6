"""Projection head: layout, size as published, and one result per token."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks import ProjectionHead


def test_projection_layout():
    head = ProjectionHead(6, 4, (8, 5))
    kinds = [type(m).__name__ for m in head]
    assert kinds == ["Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm", "ReLU", "Linear"]
    assert head[-1].bias is None
    assert (head.in_features, head.out_features) == (6, 4)


def test_projection_of_peac_has_its_published_size():
    with torch.device("meta"):
        count = [sum(p.numel() for p in ProjectionHead(1024, width).parameters()) for width in (8192, 512)]
    assert [round(n / 1e6, 2) for n in count] == [142.66, 1.05]


def test_projection_of_tokens_is_projection_of_each_token():
    head = ProjectionHead(6, 4)
    tokens = torch.randn(2, 3, 6)
    torch.testing.assert_close(head(tokens)[1, 2], head(tokens[1, 2]))


@pytest.mark.parametrize(("arguments", "message"), [((6, 0), "at least 1"), ((6, 4, ()), "at least one width")])
def test_projection_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        ProjectionHead(*arguments)
