"""Heads: layouts against torch's own modules, and the recorded projection MLP of PEAC."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_anat.networks import OrderHead, ProjectionHead, RestorationHead


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


def test_order_head_is_shared_by_tokens():
    head = OrderHead(6, 9)
    tokens = torch.randn(2, 9, 6)
    order = torch.randperm(9)
    torch.testing.assert_close(head(tokens[:, order]), head(tokens)[:, order])
    assert head(tokens).shape == (2, 9, 9)
    with pytest.raises(ValueError, match="num_cells"):
        OrderHead(6, 0)


@pytest.mark.parametrize("channels", [1, 3])
def test_restoration_equals_convolution_and_pixel_shuffle(channels):
    head = RestorationHead(6, 4, channels)
    reference = nn.Sequential(nn.Conv2d(6, 16 * channels, 1), nn.PixelShuffle(4))
    reference[0].weight.data = head.linear.weight.data[:, :, None, None]
    reference[0].bias.data = head.linear.bias.data
    feature_map = torch.randn(2, 6, 3, 5)
    torch.testing.assert_close(head(feature_map), reference(feature_map))


@pytest.mark.parametrize("dims", [2, 3])
def test_every_cell_is_painted_from_its_own_position(dims):
    head = RestorationHead(1, 2, 2, dims)
    feature_map = torch.randn(1, 1, *range(2, 2 + dims))
    changed = feature_map.clone()
    position = (0, 0) + (1,) * dims
    changed[position] += 1
    where = (head(changed) - head(feature_map)).abs().sum((0, 1)).nonzero()
    assert where.min(0).values.tolist() == [2] * dims
    assert where.max(0).values.tolist() == [3] * dims


def test_restoration_in_3d_is_row_column_depth():
    head = RestorationHead(8, 2, spatial_dims=3)
    with torch.no_grad():
        head.linear.weight.copy_(torch.eye(8))
        head.linear.bias.zero_()
    image = head(torch.arange(8.0).reshape(1, 8, 1, 1, 1))
    assert torch.equal(image[0, 0], torch.arange(8.0).reshape(2, 2, 2))


@pytest.mark.parametrize(
    ("changed", "message"), [({"cell_size": 0}, "cell_size"), ({"spatial_dims": 1}, "spatial_dims")]
)
def test_restoration_errors(changed, message):
    with pytest.raises(ValueError, match=message):
        RestorationHead(**{"in_features": 4, "cell_size": 2, **changed})
