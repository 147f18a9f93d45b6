"""Image restoration head: equal to a convolution with PixelShuffle, in 2D and 3D."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_anat.networks.heads.restoration import RestorationHead


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
