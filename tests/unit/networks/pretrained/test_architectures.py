"""Descriptions of architectures build the networks again."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks import ConvNeXtBackbone, ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.networks.pretrained.architectures import describe_architecture


@pytest.mark.parametrize(
    "build",
    [
        lambda: SwinBackbone(embed_dim=96, depths=(2, 2, 6, 2), num_heads=(3, 6, 12, 24)),
        lambda: SwinBackbone(
            spatial_dims=3, embed_dim=12, depths=(1, 2), num_heads=(1, 2), window_size=4, patch_size=2
        ),
        *(lambda depth=depth: ResNetBackbone(depth=depth) for depth in (18, 34, 50, 101)),
        lambda: ResNetBackbone(depth=18, spatial_dims=3),
        ConvNeXtBackbone,
        lambda: ConvNeXtBackbone(spatial_dims=3, depths=(1, 2), dims=(8, 24), layer_scale=0),
    ],
)
def test_the_description_builds_the_same_network(build):
    with torch.device("meta"):
        backbone = build()
        described = describe_architecture(backbone.state_dict())
        again = eval(described)
    shapes = [{name: value.shape for name, value in b.state_dict().items()} for b in (backbone, again)]
    assert shapes[0] == shapes[1]


def test_a_vit_is_described_as_far_as_shapes_tell():
    described = describe_architecture(ViTBackbone(embed_dim=48, depth=3, num_heads=3, image_size=32).state_dict())
    assert "ViTBackbone(spatial_dims=2, patch_size=16, embed_dim=48, depth=3, class_token=False" in described
    assert describe_architecture({"x": torch.ones(1)}) is None


@pytest.mark.parametrize("keys", [("layer1.0.conv1.weight",), ("layers.0.blocks.0.attn.relative_position_bias_table",)])
def test_incomplete_layouts_are_no_architecture(keys):
    assert describe_architecture(dict.fromkeys(keys, torch.ones(1, 1, 1, 1))) is None
