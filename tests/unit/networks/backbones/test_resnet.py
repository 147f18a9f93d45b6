"""ResNet: published sizes and names, and the expansion of gray images."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import resnet18, resnet50

from monai_anat.networks import ResNetBackbone
from monai_anat.networks.backbones.resnet import GrayExpansion

# parameters of torchvision's networks without their classifier (11,689,512 - 513,000 and so on)
SIZES = {18: 11_176_512, 34: 21_284_672, 50: 23_508_032, 101: 42_500_160}


@pytest.mark.parametrize("depth", SIZES)
def test_sizes_are_the_published_ones(depth):
    with torch.device("meta"):
        backbone = ResNetBackbone(in_channels=3, depth=depth)
    assert sum(p.numel() for p in backbone.parameters()) == SIZES[depth]


def test_names_are_those_of_published_files():
    with torch.device("meta"):
        names = set(ResNetBackbone(depth=50).state_dict())
    assert {
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv3.weight",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.num_batches_tracked",
        "layer3.5.bn2.bias",
        "layer4.2.conv1.weight",
    } <= names
    assert "layer1.1.downsample.0.weight" not in names


def test_the_stride_of_a_bottleneck_is_in_its_middle():
    with torch.device("meta"):
        block = ResNetBackbone(depth=50).layer2[0]
    assert (block.conv1.stride, block.conv2.stride, block.conv3.stride) == ((1, 1), (2, 2), (1, 1))


def test_expansion_changes_one_normalization_for_three():
    expansion = GrayExpansion(2)
    gray = torch.rand(2, 1, 4, 4)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expansion.scale.copy_((0.25 / std).reshape(3, 1, 1))
    expansion.shift.copy_(((0.5 - mean) / std).reshape(3, 1, 1))
    expected = (gray - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1)
    torch.testing.assert_close(expansion((gray - 0.5) / 0.25), expected)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depth": 20}, "depth must be one of 18, 34, 50, 101, got depth=20"),
        ({"stem": "deep"}, "stem must be one of plain, expand"),
        ({"stem": "expand", "in_channels": 3}, "stem='expand' takes one gray channel"),
    ],
)
def test_impossible_arguments_are_named(changed, message):
    with pytest.raises(ValueError, match=message):
        ResNetBackbone(**changed)


@pytest.mark.parametrize(("depth", "build"), [(18, resnet18), (50, resnet50)])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_monais_network_has_the_same_state_and_outputs(depth, build, spatial_dims):
    network = build(
        spatial_dims=spatial_dims,
        n_input_channels=1,
        feed_forward=False,
        shortcut_type="B",
        bias_downsample=False,
        conv1_t_stride=2,
    ).eval()
    backbone = ResNetBackbone(spatial_dims=spatial_dims, depth=depth).eval()
    backbone.load_state_dict(network.state_dict(), strict=True)
    image = torch.randn(1, 1, *[32] * spatial_dims)
    with torch.no_grad():
        pooled = backbone(image).flatten(2).mean(2)
        torch.testing.assert_close(pooled, network(image))
