"""Contract of every backbone of the package."""

from __future__ import annotations

import copy
import inspect
import itertools
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from monai.networks.nets import UNETR, FlexibleUNet, ResNet, SwinUNETR, ViT

from monai_anat.networks import (
    ConvNeXtBackbone,
    GatedBackbone,
    ResNetBackbone,
    SwinBackbone,
    ViTBackbone,
    as_backbone,
    load_encoder,
    save_encoder,
)
from monai_anat.networks.backbones.adapters import AdaptedBackbone
from monai_anat.networks.backbones.backbone import to_tokens
from monai_anat.networks.backbones.registry import known_backbones


@dataclass(frozen=True)
class Case:
    build: Any
    size: tuple[int, ...]
    odd: tuple[int, ...] = ()  # a size that is no multiple of the stride, empty where none is taken


def _swin(**changed):
    return SwinBackbone(**{"embed_dim": 16, "depths": (2, 2, 2), "num_heads": (1, 2, 4), "window_size": 4, **changed})


def _vit(**changed):
    return ViTBackbone(**{"image_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 5, "num_heads": 3, **changed})


def _convnext(**changed):
    return ConvNeXtBackbone(**{"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32), "layer_scale": 0.5, **changed})


CASES = {
    "swin": Case(_swin, (64, 96), (50, 71)),
    "swin_3d": Case(lambda: _swin(spatial_dims=3, in_channels=2, embed_dim=8), (32, 32, 16), (19, 33, 32)),
    "swin_4_stages": Case(lambda: _swin(depths=(1, 2, 1, 2), num_heads=(1, 1, 2, 2), patch_size=2), (32, 32), (33, 40)),
    "vit": Case(_vit, (32, 32), (37, 50)),
    "vit_class_token": Case(lambda: _vit(class_token=True), (32, 32), (37, 50)),
    "vit_3d": Case(lambda: _vit(spatial_dims=3, image_size=(32, 16, 16)), (32, 16, 16), (17, 16, 25)),
    "convnext": Case(_convnext, (64, 96), (50, 71)),
    "convnext_3d": Case(lambda: _convnext(spatial_dims=3, depths=(1, 1), dims=(8, 16)), (16, 16, 8), (9, 17, 16)),
    "resnet18": Case(lambda: ResNetBackbone(depth=18), (64, 96), (50, 71)),
    "resnet18_expand": Case(lambda: ResNetBackbone(depth=18, stem="expand"), (64, 64), (50, 71)),
    "resnet50": Case(lambda: ResNetBackbone(depth=50), (64, 64), (50, 71)),
    "resnet18_3d": Case(lambda: ResNetBackbone(depth=18, spatial_dims=3), (32, 32, 64), (33, 32, 40)),
    "gated_resnet18": Case(lambda: GatedBackbone(backbone=ResNetBackbone(depth=18)), (64, 64), (50, 71)),
    "gated_swin": Case(lambda: GatedBackbone(backbone=_swin()), (64, 64), (50, 71)),
    "gated_vit": Case(lambda: GatedBackbone(backbone=_vit(class_token=True)), (32, 32), (37, 50)),
    "monai_swin": Case(
        lambda: as_backbone(SwinUNETR(1, 2, spatial_dims=2, feature_size=12, depths=(1, 1, 1, 1))), (64, 64)
    ),
    "monai_vit": Case(lambda: as_backbone(ViT(1, (32, 32), (8, 8), 24, 48, 4, 3, spatial_dims=2)), (32, 32)),
    "monai_vit_classification": Case(
        lambda: as_backbone(ViT(1, (32, 32), (8, 8), 24, 48, 4, 3, spatial_dims=2, classification=True)), (32, 32)
    ),
    "monai_unetr": Case(lambda: as_backbone(UNETR(1, 2, 32, 8, 24, 48, 3, spatial_dims=2)), (32, 32)),
    "monai_resnet": Case(
        lambda: as_backbone(ResNet("basic", [1, 1, 1, 1], [8, 16, 24, 32], spatial_dims=2, n_input_channels=1)),
        (64, 64),
    ),
    "monai_flexible": Case(
        lambda: as_backbone(FlexibleUNet(1, 2, backbone="resnet18", spatial_dims=2, pretrained=False)), (64, 64)
    ),
}
OWN = [name for name in CASES if not name.startswith("monai")]
RECOMPUTING = [name for name in OWN if not name.startswith(("resnet", "gated"))]


def _image(backbone, size, batch=2, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, backbone.in_channels, *size, generator=generator)


@pytest.fixture(params=CASES)
def case(request):
    torch.manual_seed(0)
    return CASES[request.param]


@pytest.fixture(params=OWN)
def own(request):
    torch.manual_seed(0)
    return CASES[request.param]


def test_every_backbone_has_a_case():
    assert {*known_backbones().values(), AdaptedBackbone} == {type(case.build()) for case in CASES.values()}


def test_maps_have_the_announced_channels_and_strides(case):
    backbone = case.build().eval()
    maps = backbone.forward_features(_image(backbone, case.size))
    assert len(maps) == len(backbone.channels) == len(backbone.strides)
    assert backbone.num_features == backbone.channels[-1]
    assert list(backbone.strides) == sorted(backbone.strides)
    for feature_map, channels, stride in zip(maps, backbone.channels, backbone.strides, strict=True):
        assert feature_map.shape == (2, channels, *(-(-side // stride) for side in case.size))


def test_forward_is_the_last_map_and_tokens_are_row_major(case):
    backbone = case.build().eval()
    image = _image(backbone, case.size)
    last = backbone(image)
    assert torch.equal(last, backbone.forward_features(image)[-1])
    tokens = to_tokens(last)
    assert tokens.shape == (2, last[0, 0].numel(), backbone.num_features)
    for number, position in enumerate(itertools.product(*map(range, last.shape[2:]))):
        assert torch.equal(tokens[:, number], last[(slice(None), slice(None), *position)])


def test_odd_sizes_are_rounded_up(own):
    backbone = own.build().eval()
    for feature_map, stride in zip(backbone.forward_features(_image(backbone, own.odd)), backbone.strides, strict=True):
        assert feature_map.shape[2:] == tuple(-(-side // stride) for side in own.odd)
        assert feature_map.isfinite().all()


def test_images_of_a_batch_do_not_see_each_other(case):
    backbone = case.build().eval()
    image = _image(backbone, case.size)
    alone = torch.cat([backbone(image[:1]), backbone(image[1:])])
    assert (backbone(image) - alone).abs().max() < 1e-5 * alone.abs().max()


def test_a_batch_of_one_trains_and_every_parameter_gets_a_gradient(own):
    backbone = own.build().train()
    image = _image(backbone, own.size, batch=1)
    sum(m.square().mean() for m in backbone.forward_features(image)).backward()
    assert [name for name, p in backbone.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_config_builds_the_same_network_again(own):
    backbone = own.build()
    assert set(backbone.config) == set(inspect.signature(type(backbone)).parameters)
    again = type(backbone)(**backbone.config)
    assert again.config == backbone.config
    again.load_state_dict(backbone.state_dict(), strict=True)
    image = _image(backbone, own.size)
    assert torch.equal(again.eval()(image), backbone.eval()(image))


def test_an_encoder_on_disk_comes_back_bit_equal(own, tmp_path):
    backbone = own.build().eval()
    save_encoder(backbone, tmp_path, image_size=own.size, mean=0.5, std=0.25, provenance={"method": "none"})
    image = _image(backbone, own.size)
    for path in (tmp_path, tmp_path / "model.pt", tmp_path / "model.safetensors"):
        assert torch.equal(load_encoder(path)(image), backbone(image))


def test_copies_and_pickles(case):
    backbone = case.build().eval()
    image = _image(backbone, case.size)
    expected = backbone(image)
    assert torch.equal(copy.deepcopy(backbone)(image), expected)
    assert torch.equal(pickle.loads(pickle.dumps(backbone))(image), expected)


def test_bfloat16_autocast_stays_close(case):
    backbone = case.build().train()
    image = _image(backbone, case.size, batch=4)
    with torch.autocast("cpu", torch.bfloat16):
        out = backbone(image)
    out.float().square().mean().backward()
    assert out.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in backbone.parameters())
    backbone.eval()
    with torch.no_grad():
        expected = backbone(image)
        with torch.autocast("cpu", torch.bfloat16):
            got = backbone(image).float()
    assert (got - expected).norm() < 0.1 * expected.norm()


@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
def test_a_trace_equals_eager_for_any_batch_size(own):
    backbone = own.build().eval()
    for size in (own.size, own.odd):
        with torch.no_grad():
            traced = torch.jit.trace(backbone, _image(backbone, size, batch=2))
            for batch in (1, 3):
                image = _image(backbone, size, batch, seed=1)
                torch.testing.assert_close(traced(image), backbone(image), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RECOMPUTING)
def test_recomputing_blocks_changes_no_gradient(name):
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(0)
        config = {**CASES[name].build().config, "use_checkpoint": recompute, "drop_path_rate": 0.3}
        cls = type(CASES[name].build())
        torch.manual_seed(1)
        backbone = cls(**config).train()
        torch.manual_seed(2)
        backbone(_image(backbone, CASES[name].size)).square().sum().backward()
        gradients.append([p.grad for p in backbone.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_drop_path_acts_in_training_only():
    for build in (_swin, _vit, _convnext):
        backbone = build(drop_path_rate=0.5)
        image = _image(backbone, (32, 32), batch=1).expand(4, -1, -1, -1)
        assert not torch.equal(*backbone.train()(image)[:2])
        torch.testing.assert_close(*backbone.eval()(image)[:2])


def test_double_precision(own):
    backbone = own.build().double().eval()
    assert backbone(_image(backbone, own.size).double()).dtype == torch.float64


def test_wrong_inputs_are_named(own):
    backbone = own.build()
    image = _image(backbone, own.size)
    with pytest.raises(ValueError, match="channel"):
        backbone(torch.cat([image, image], dim=1))
    with pytest.raises(ValueError, match="dimensions"):
        backbone(image[0])


@pytest.mark.parametrize("cls", [ConvNeXtBackbone, SwinBackbone, ViTBackbone, ResNetBackbone])
def test_wrong_dimensions_are_named(cls):
    with pytest.raises(ValueError, match="spatial_dims"):
        cls(spatial_dims=4)
    with pytest.raises(ValueError, match="in_channels"):
        cls(in_channels=0)


def test_capabilities_are_what_they_announce(case):
    backbone = case.build().eval()
    image = _image(backbone, case.size)
    if backbone.supports_masking:
        patches = backbone.embed_patches(image)
        assert patches.shape == (2, *(-(-side // backbone.patch_size) for side in case.size), backbone.channels[0])
        assert torch.equal(backbone.forward_patches(patches)[-1], backbone(image))
    else:
        with pytest.raises(TypeError, match="has no patch embedding"):
            backbone.embed_patches(image)
        with pytest.raises(TypeError, match="has no patch embedding"):
            backbone.forward_patches(image)
    if backbone.supports_visible:
        visible = torch.arange(backbone(image)[0, 0].numel()).expand(2, -1)
        torch.testing.assert_close(backbone.forward_visible(image, visible), to_tokens(backbone(image)))
    else:
        with pytest.raises(TypeError, match="needs all patches"):
            backbone.forward_visible(image, torch.zeros(2, 1, dtype=torch.long))
    if backbone.supports_fixed_positions:
        backbone.fix_positions()
        assert not backbone.pos_embed.requires_grad
    else:
        with pytest.raises(TypeError, match="has no learned positions"):
            backbone.fix_positions()


def test_a_scripted_network_equals_eager_for_any_size_and_batch(own):
    backbone = own.build().eval()
    scripted = torch.jit.script(backbone)
    for size in (own.size, own.odd):
        for batch in (1, 3):
            image = _image(backbone, size, batch)
            with torch.no_grad():
                assert torch.equal(scripted(image), backbone(image))
    with pytest.raises(Exception, match="channel"):
        scripted(torch.cat([image, image], dim=1))
