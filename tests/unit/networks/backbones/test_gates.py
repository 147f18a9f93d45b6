"""Attention gates between the stages of an encoder: formula, position, and record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.networks.nets import FlexibleUNet
from torch import Tensor

from monai_anat.networks import (
    Backbone,
    ContextGate,
    ConvNeXtBackbone,
    GatedBackbone,
    ResNetBackbone,
    SwinBackbone,
    ViTBackbone,
    as_backbone,
    load_encoder,
    save_encoder,
)

BACKBONES = {
    "convnext": lambda: ConvNeXtBackbone(depths=(1, 1, 1), dims=(8, 16, 24)),
    "resnet18": lambda: ResNetBackbone(depth=18),
    "resnet50": lambda: ResNetBackbone(depth=50),
    "swin": lambda: SwinBackbone(embed_dim=8, depths=(1, 1, 1), num_heads=(1, 2, 4), window_size=4, patch_size=4),
    "vit": lambda: ViTBackbone(image_size=64, patch_size=16, embed_dim=24, depth=5, num_heads=3),
    "vit_class_token": lambda: ViTBackbone(
        image_size=64, patch_size=16, embed_dim=24, depth=4, num_heads=3, class_token=True
    ),
}


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> Backbone:
    torch.manual_seed(0)
    return BACKBONES[request.param]().eval()


def image(seed: int = 0) -> Tensor:
    return torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(seed))


def run_stages(backbone: Backbone, x: Tensor, between: Callable[[int, Tensor], Tensor]) -> list[Tensor]:
    """Compute the maps of all stages, where the next stage starts from ``between(stage, map)``."""
    maps, inputs = [], [x]
    for stage in range(len(backbone.stage_channels)):
        outputs = backbone.forward_stage(stage, inputs)
        maps.append(outputs[0])
        inputs = [between(stage, outputs[0]), *outputs[1:]]
    return maps


def open_gates(encoder: GatedBackbone) -> GatedBackbone:
    """Gates without weights: each is sigmoid(0) for the channels and for the positions, so a factor of 1/4."""
    with torch.no_grad():
        for parameter in encoder.gates.parameters():
            parameter.zero_()
    return encoder


def test_a_gate_is_the_formula() -> None:
    torch.manual_seed(0)
    gate, x = ContextGate(6, reduction=3, kernel_size=3), torch.randn(2, 6, 4, 5)
    inner, outer = gate.channel_mlp[0].weight[:, :, 0, 0], gate.channel_mlp[2].weight[:, :, 0, 0]
    assert (inner.shape, outer.shape) == ((2, 6), (6, 2))
    for b in range(2):
        pooled = [x[b].flatten(1).mean(1), x[b].flatten(1).max(1).values]
        channel = torch.sigmoid(sum(outer @ torch.relu(inner @ p) for p in pooled))
        scaled = x[b] * channel[:, None, None]
        seen = torch.stack([scaled.mean(0), scaled.max(0).values])
        position = torch.sigmoid(torch.nn.functional.conv2d(seen[None], gate.position_conv.weight, padding=1))
        torch.testing.assert_close(gate(x)[b], scaled * position[0])


def test_gates_lie_between_0_and_1_and_only_damp() -> None:
    torch.manual_seed(0)
    gate, x = ContextGate(8), 10 * torch.randn(2, 8, 6, 7)
    for factor in (gate.channel_gate(x), gate.position_gate(x)):
        assert ((factor > 0) & (factor < 1)).all()
    assert (gate.channel_gate(x).shape, gate.position_gate(x).shape) == ((2, 8, 1, 1), (2, 1, 6, 7))
    assert (gate(x).abs() <= x.abs()).all()
    assert torch.equal(gate(x).sign(), x.sign())


def test_passing_maps_on_unchanged_changes_nothing(backbone: Backbone) -> None:
    plain, passed = backbone.forward_stages(image()), run_stages(backbone, image(), lambda stage, m: m)
    assert len(plain) == len(backbone.stage_channels) == len(backbone.stage_strides)
    assert all(torch.equal(a, b) for a, b in zip(plain, passed, strict=True))
    last = backbone.forward_features(image())
    assert all(torch.equal(a, b) for a, b in zip(plain[-len(last) :], last, strict=True))


def test_a_gate_reaches_the_later_stages_only(backbone: Backbone) -> None:
    plain = backbone.forward_stages(image())
    seen: list[tuple[int, tuple[int, ...]]] = []
    for closed in range(len(plain) - 1):

        def between(stage: int, feature_map: Tensor, closed: int = closed) -> Tensor:
            seen.append((stage, tuple(feature_map.shape)))
            return feature_map * 0.3 if stage == closed else feature_map

        changed = run_stages(backbone, image(), between)
        equal = [torch.equal(a, b) for a, b in zip(plain, changed, strict=True)]
        assert equal == [True] * (closed + 1) + [False] * (len(plain) - closed - 1)
    assert seen[: len(plain) - 1] == [(s, tuple(m.shape)) for s, m in enumerate(plain[:-1])]


def test_the_encoder_is_the_stages_with_the_gates_between(backbone: Backbone) -> None:
    encoder = open_gates(GatedBackbone(backbone=backbone)).eval()
    maps = encoder.forward_features(image())
    expected = run_stages(backbone, image(), lambda stage, m: m / 4)
    for got, want in zip(maps[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(got, want)
    torch.testing.assert_close(maps[-1], expected[-1] / 4)
    assert encoder.channels == backbone.stage_channels
    assert encoder.strides == backbone.stage_strides


def test_nobody_may_leave_the_gates_out(backbone: Backbone) -> None:
    encoder = GatedBackbone(backbone=backbone).eval()
    without = encoder.gates[-1](backbone(image()))
    assert (encoder(image()) - without).abs().max() > 0.01 * without.abs().max()


def test_every_gate_learns(backbone: Backbone) -> None:
    encoder = GatedBackbone(backbone=backbone.train())
    encoder(image()).square().sum().backward()
    assert [name for name, p in encoder.gates.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_a_resnet_begins_with_its_stem() -> None:
    encoder = GatedBackbone(backbone=ResNetBackbone(depth=18))
    assert encoder.strides == (2, 4, 8, 16, 32)
    assert encoder.channels == (64, 64, 128, 256, 512)
    with torch.device("meta"):  # 352,746 more than the backbone's 11.2 million
        assert sum(p.numel() for p in GatedBackbone(backbone=ResNetBackbone(depth=18)).gates.parameters()) == 352_746


def test_the_gates_are_kept_on_disk(backbone: Backbone, tmp_path: Any) -> None:
    encoder = GatedBackbone(backbone=backbone, reduction=4, kernel_size=3).eval()
    save_encoder(encoder, tmp_path, image_size=64, mean=0.5, std=0.25)
    again = load_encoder(tmp_path)
    assert isinstance(again, GatedBackbone)
    assert again.config == encoder.config
    for got, expected in zip(again.forward_features(image()), encoder.forward_features(image()), strict=True):
        assert torch.equal(got, expected)


def test_what_cannot_be_gated_is_named() -> None:
    monai_network = as_backbone(FlexibleUNet(1, 2, backbone="resnet18", spatial_dims=2, pretrained=False))
    with pytest.raises(TypeError, match=r"got a AdaptedBackbone; set gates=False"):
        GatedBackbone(backbone=monai_network)
    with pytest.raises(TypeError, match=r"cannot be run stage by stage; use a backbone of monai_anat\.networks"):
        monai_network.forward_stage(0, [image()])
    with pytest.raises(TypeError, match="got a GatedBackbone"):
        GatedBackbone(backbone=GatedBackbone(backbone=BACKBONES["swin"]()))
    with pytest.raises(ValueError, match=r"spatial_dims=3; use 2"):
        GatedBackbone(backbone=ResNetBackbone(depth=18, spatial_dims=3))
    with pytest.raises(ValueError, match=r"names the class 'os.system'.*GatedBackbone"):
        GatedBackbone(backbone={"backbone": "os.system", "kwargs": {}})
    for wrong in ({"channels": 0}, {"channels": 4, "kernel_size": 4}, {"channels": 4, "reduction": 0}):
        with pytest.raises(ValueError, match="kernel_size odd"):
            ContextGate(**wrong)
