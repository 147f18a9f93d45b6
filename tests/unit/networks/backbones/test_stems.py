"""The first layer moved between gray and color: the same features from the same picture."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks import ConvNeXtBackbone, ResNetBackbone, SwinBackbone, ViTBackbone
from monai_anat.networks.backbones.stems import Normalization, convert_stem
from monai_anat.networks.pretrained.normalizations import IMAGENET, RADIOGRAPH

NONE = Normalization((0.0,), (1.0,))
OTHER = Normalization((0.3,), (0.2,))


def _normalized(gray, normalization, channels):
    mean, std = (torch.tensor(v).expand(channels).reshape(-1, 1, 1) for v in (normalization.mean, normalization.std))
    return (gray.expand(-1, channels, -1, -1) - mean) / std


def _pair(build, source, target, reverse=False):
    """A color network and the gray one converted from it (or the other way), in evaluation mode."""
    torch.manual_seed(0)
    channels = (1, 3) if reverse else (3, 1)
    first, second = (build(c).eval() for c in channels)
    for name, value in first.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    state, note = convert_stem(first.state_dict(), second.state_dict(), source, target)
    second.load_state_dict(state, strict=True)
    assert note
    return first, second


def _swin(channels):
    return SwinBackbone(in_channels=channels, embed_dim=16, depths=(2, 2), num_heads=(1, 2), window_size=4)


def _vit(channels):
    return ViTBackbone(in_channels=channels, image_size=32, patch_size=8, embed_dim=16, depth=2, num_heads=2)


def _convnext(channels):
    return ConvNeXtBackbone(in_channels=channels, depths=(1, 1), dims=(8, 16), layer_scale=0.5)


@pytest.mark.parametrize("build", [_swin, _vit, _convnext])
@pytest.mark.parametrize(
    ("source", "target"),
    [(RADIOGRAPH, RADIOGRAPH), (NONE, NONE), (IMAGENET, RADIOGRAPH), (IMAGENET, OTHER), (RADIOGRAPH, OTHER)],
)
def test_patch_stems_are_exact(build, source, target):
    color, gray = _pair(build, source, target)
    image = torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        expected = color(_normalized(image, source, 3))
        got = gray(_normalized(image, target, 1))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_equal_normalization_is_the_plain_sum():
    color, gray = _pair(_swin, RADIOGRAPH, RADIOGRAPH)
    torch.testing.assert_close(gray.patch_embed.proj.weight, color.patch_embed.proj.weight.sum(1, keepdim=True))
    assert torch.equal(gray.patch_embed.proj.bias, color.patch_embed.proj.bias)


def _resnet_stem(network, image):
    return network.bn1(network.conv1(image))


def _resnet(channels):
    return ResNetBackbone(in_channels=channels, depth=18)


def test_a_padded_stem_is_exact_in_the_interior_only():
    color, gray = _pair(_resnet, IMAGENET, RADIOGRAPH)
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = _resnet_stem(color, _normalized(image, IMAGENET, 3))
        got = _resnet_stem(gray, _normalized(image, RADIOGRAPH, 1))
    inside = (..., slice(2, -2), slice(2, -2))
    torch.testing.assert_close(got[inside], expected[inside], rtol=1e-4, atol=1e-4)
    assert (got - expected).abs().max() > 0.1  # the border, as the documentation says


def test_a_padded_stem_without_normalization_is_exact_everywhere():
    color, gray = _pair(_resnet, NONE, NONE)
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(gray(image), color(image.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-4)


def test_the_expanding_stem_is_exact_everywhere():
    torch.manual_seed(0)
    color = _resnet(3).eval()
    gray = ResNetBackbone(depth=18, stem="expand").eval()
    state, note = convert_stem(color.state_dict(), gray.state_dict(), IMAGENET, RADIOGRAPH)
    gray.load_state_dict(state, strict=True)
    assert "expanded" in note
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = color(_normalized(image, IMAGENET, 3))
        got = gray(_normalized(image, RADIOGRAPH, 1))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_an_expanding_stem_of_our_own_keeps_its_expansion():
    gray = ResNetBackbone(depth=18, stem="expand")
    gray.expansion.scale.fill_(2)
    state, note = convert_stem(gray.state_dict(), gray.state_dict(), RADIOGRAPH, OTHER)
    assert note is None
    assert torch.equal(state["expansion.scale"], gray.expansion.scale)


def test_from_gray_to_color_is_exact_for_gray_pictures():
    gray, color = _pair(_swin, RADIOGRAPH, RADIOGRAPH, reverse=True)
    image = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(color(image.expand(-1, 3, -1, -1)), gray(image), rtol=1e-5, atol=1e-5)


def test_equal_channels_are_left_alone():
    state = _swin(3).state_dict()
    converted, note = convert_stem(state, state, IMAGENET, OTHER)
    assert note is None
    assert all(converted[name] is state[name] for name in state)


def test_the_source_is_not_changed():
    state = _resnet(3).state_dict()
    before = {name: value.clone() for name, value in state.items()}
    convert_stem(state, _resnet(1).state_dict(), IMAGENET, OTHER)
    assert all(torch.equal(state[name], before[name]) for name in state)
