"""Helpers of the Backbone base class; tests/contracts holds what every backbone must fulfill."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import nn

from monai_anat.networks import Backbone, ViTBackbone
from monai_anat.networks.backbones.backbone import pad_to_multiple, static_shape, to_tokens


def test_tokens_are_row_major_in_2d_and_3d():
    for size in ((2, 3), (2, 3, 4)):
        count = torch.Size(size).numel()
        feature_map = torch.arange(count).reshape(1, 1, *size)
        assert to_tokens(feature_map)[0, :, 0].tolist() == list(range(count))


def test_tokens_of_a_channels_last_map_are_a_view():
    feature_map = torch.zeros(2, 5, 7, 8).permute(0, 3, 1, 2)
    tokens = to_tokens(feature_map)
    assert tokens.data_ptr() == feature_map.data_ptr()
    assert tokens.is_contiguous()


@pytest.mark.parametrize(("first_axis", "shape"), [(1, (1, 5, 8, 3)), (2, (1, 3, 5, 8))])
def test_padding_is_zero_and_at_the_far_ends(first_axis, shape):
    x = torch.rand(shape)
    padded = pad_to_multiple(x, 4, first_axis)
    size = padded.shape[first_axis : first_axis + 2]
    assert size == (8, 8)
    assert torch.equal(padded.narrow(first_axis, 0, 5), x)
    assert not padded.narrow(first_axis, 5, 3).any()
    assert pad_to_multiple(padded, 4, first_axis) is padded


def test_static_shape_is_plain_numbers():
    assert static_shape(torch.zeros(2, 3)) == [2, 3]


def test_a_backbone_needs_its_features():
    class Half(Backbone):
        pass

    with pytest.raises(TypeError, match="forward_features"):
        Half({}, spatial_dims=2, in_channels=1, channels=(1,), strides=(1,))


def test_constructor_arguments_are_recorded():
    class Named(Backbone):
        def __init__(self, *, width=4, sizes=(1, 2), name="a"):
            super().__init__(spatial_dims=2, in_channels=1, channels=(width,), strides=(1,))
            self.width = width

        def forward_features(self, x):
            return [x]

    class Wider(Named):
        def __init__(self, factor):
            super().__init__(width=4 * factor)

    class Same(Named):
        pass

    assert Named().config == {"width": 4, "sizes": [1, 2], "name": "a"}
    assert Named(sizes=[3], name="b").config == {"width": 4, "sizes": [3], "name": "b"}
    assert Wider(2).config == {"factor": 2}
    assert Same(width=2).config["width"] == 2
    assert [*inspect.signature(Wider).parameters] == ["factor"]


def test_a_backbone_of_ones_own_is_one_method():
    class Mean(Backbone):
        def __init__(self):
            super().__init__({}, spatial_dims=2, in_channels=1, channels=(1,), strides=(4,))
            self.pool = nn.AvgPool2d(4)

        def forward_features(self, x):
            self.check_input(x)
            return [self.pool(x)]

    assert Mean()(torch.ones(1, 1, 8, 8)).shape == (1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"1 channel.*got shape \(1, 3, 8, 8\).*in_channels=3"):
        Mean()(torch.ones(1, 3, 8, 8))
    with pytest.raises(ValueError, match=r"4 dimensions.*x\[None\]"):
        Mean()(torch.ones(1, 8, 8))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # of torch.compile's own
def test_every_way_into_a_compiled_network_is_compiled_and_a_copy_computes_by_itself():
    torch.manual_seed(0)
    backbone, x = ViTBackbone(image_size=16, patch_size=4, embed_dim=8, depth=2, num_heads=2), torch.randn(1, 1, 16, 16)
    names, graphs = set(backbone.state_dict()), []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    entries = {
        "forward": lambda b: b(x),
        "forward_features": lambda b: b.forward_features(x)[-1],
        "forward_stages": lambda b: b.forward_stages(x)[-1],
        "forward_patches": lambda b: b.forward_patches(b.patch_embed(x))[-1],
        "forward_visible": lambda b: b.forward_visible(x, torch.tensor([[0, 3, 5]])),
    }
    expected = {name: enter(backbone) for name, enter in entries.items()}
    backbone.compile(backend=backend)
    assert set(backbone.state_dict()) == names
    for name, enter in entries.items():
        before = len(graphs)
        torch.testing.assert_close(enter(backbone), expected[name], msg=name)
        assert len(graphs) == before + 1, name
    other = copy.deepcopy(backbone)
    for parameter in other.parameters():
        nn.init.zeros_(parameter)
    for name, enter in entries.items():
        assert not enter(other).any(), name
        torch.testing.assert_close(enter(backbone), expected[name], msg=name)
