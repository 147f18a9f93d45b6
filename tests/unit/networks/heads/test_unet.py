"""The U-Net around a backbone: MONAI's arithmetic, any backbone that halves, and transfer of both halves."""

from __future__ import annotations

import copy

import pytest
import torch
from monai.networks.nets import FlexibleUNet

from monai_anat.networks import BackboneUNet, ResNetBackbone, SwinBackbone, ViTBackbone

BACKBONES = {
    "resnet": lambda: ResNetBackbone(depth=18),
    "swin": lambda: SwinBackbone(embed_dim=8, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=2),
    "swin_two_stages": lambda: SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2),
    "swin_3d": lambda: SwinBackbone(
        spatial_dims=3, in_channels=2, embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=2, patch_size=2
    ),
}


@pytest.fixture(params=BACKBONES)
def backbone(request):
    torch.manual_seed(0)
    return BACKBONES[request.param]()


def test_every_pixel_gets_its_values_and_every_parameter_a_gradient(backbone):
    network = BackboneUNet(backbone, 3, norm="instance")
    size = [network.multiple * n for n in (2, 3, 1)[: backbone.spatial_dims]]
    out = network(torch.randn(2, backbone.in_channels, *size))
    assert out.shape == (2, 3, *size)
    out.square().mean().backward()
    assert [n for n, p in network.decoder.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert network.head.weight.grad.any()
    assert [n for n, p in backbone.named_parameters() if p.grad is None] == []


def test_every_skip_reaches_the_output():
    """The image itself is changed through one stage at a time."""
    torch.manual_seed(0)
    network = BackboneUNet(ResNetBackbone(depth=18)).eval()
    stages = network.encode(torch.randn(1, 1, 64, 64))
    assert [m.shape[-1] for m in stages] == [32, 16, 8, 4, 2]
    out = network.decode(stages)
    for number in range(5):
        changed = [m + 1 if i == number else m for i, m in enumerate(stages)]
        assert (network.decode(changed) - out).abs().max() > 1e-6, number


def test_it_is_monais_flexible_unet():
    """The same decoder on the same stages; 32.1 million parameters with a ResNet-50."""
    torch.manual_seed(0)
    monai = FlexibleUNet(1, 1, backbone="resnet18", norm="batch").eval()
    ours = BackboneUNet(ResNetBackbone(depth=18)).eval()
    ours.decoder.load_state_dict(monai.decoder.state_dict(), strict=True)
    ours.head.load_state_dict({k.removeprefix("0."): v for k, v in monai.segmentation_head.state_dict().items()})
    stages = ours.encode(torch.randn(2, 1, 64, 64))
    expected = monai.segmentation_head(monai.decoder(stages, monai.skip_connect))
    assert torch.equal(ours.decode(stages), expected)
    with torch.device("meta"):
        published = BackboneUNet(ResNetBackbone(depth=50))
        reference = FlexibleUNet(1, 1, backbone="resnet50")
    count = sum(p.numel() for p in published.parameters())
    assert count == sum(p.numel() for p in reference.parameters())
    assert round(count / 1e6, 1) == 32.1


def test_backbone_and_decoder_load_strictly_into_a_network_for_segmentation():
    torch.manual_seed(0)
    restoring, segmenting = BackboneUNet(BACKBONES["resnet"]()), BackboneUNet(BACKBONES["resnet"](), out_channels=4)
    for part in ("backbone", "decoder"):
        getattr(segmenting, part).load_state_dict(getattr(restoring, part).state_dict(), strict=True)
    image = torch.randn(1, 1, 64, 64)
    one, two = (network.eval().decoder(network.encode(image)) for network in (restoring, segmenting))
    assert torch.equal(one, two)
    assert segmenting(image).shape == (1, 4, 64, 64)


def test_images_of_a_batch_do_not_see_each_other_with_instance_norm():
    torch.manual_seed(0)
    network = BackboneUNet(BACKBONES["swin"](), norm="instance").train()
    image = torch.randn(2, 1, 64, 64)
    torch.testing.assert_close(network(image)[:1], network(image[:1]), rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match=r"got ViTBackbone with strides \(8, 8, 8, 8\)"):
        BackboneUNet(ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=3))
    with pytest.raises(ValueError, match=r"at least 5 widths.* got \(32, 16\)"):
        BackboneUNet(ResNetBackbone(depth=18), decoder_channels=(32, 16))
    network = BackboneUNet(ResNetBackbone(depth=18))
    with pytest.raises(ValueError, match=r"multiples of 32.*got \[112, 96\]; nearest is \[128, 96\]"):
        network(torch.zeros(1, 1, 112, 96))


def test_both_halves_are_compiled_since_methods_call_each(monkeypatch):
    compiled = []

    def compile_half(half, **options):
        compiled.append((half.__name__, options))
        return half

    monkeypatch.setattr(torch, "compile", compile_half)
    network = BackboneUNet(BACKBONES["swin_two_stages"](), norm="instance")
    network.compile(dynamic=False)
    assert compiled == [("encode", {"dynamic": False}), ("decode", {"dynamic": False})]
    assert network(torch.randn(1, 1, 16, 16)).shape == (1, 1, 16, 16)
    assert copied_is_its_own(network, torch.randn(1, 1, 16, 16))


def copied_is_its_own(network: torch.nn.Module, x: torch.Tensor) -> bool:
    """Whether a copy computes with its own weights."""
    other = copy.deepcopy(network)
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    return bool(network(x).any()) and not other(x).any()
