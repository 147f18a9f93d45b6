"""Every family's layout, synthesised, loads strictly and gives the source network's features."""

from __future__ import annotations

import argparse
import hashlib

import pytest
import safetensors.torch
import torch

from monai_anat.networks import ResNetBackbone, SwinBackbone, ViTBackbone, load_backbone, save_encoder

SMALL = {"embed_dim": 16, "depths": (2, 2), "num_heads": (1, 2), "window_size": 4}
IMAGENET_MEAN, IMAGENET_STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


def _swin(seed=0, **changed):
    torch.manual_seed(seed)
    return SwinBackbone(**{**SMALL, **changed}).eval()


def _official(backbone):
    """The state with the constants that official files hold beside the parameters."""
    state = dict(backbone.state_dict())
    for s in range(2):
        for b in range(2):
            state[f"layers.{s}.blocks.{b}.attn.relative_position_index"] = torch.zeros(16, 16, dtype=torch.long)
        state[f"layers.{s}.blocks.1.attn_mask"] = torch.zeros(4, 16, 16)
    return state


def _prefixed(state, prefix):
    return {prefix + name: value for name, value in state.items()}


def _heads(*names, width=3):
    return {name: torch.full((width,), 7.0) for name in names}


def _popar_training(backbone):
    state = _prefixed(_official(backbone), "module.swin_model.")
    state |= _heads("module.head.weight", "module.head.bias", "module.bias", "module.decoder.0.weight")
    state = {name: v.double() if v.is_floating_point() else v for name, v in state.items()}
    return {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "epoch": 7}


def _popar_published(prefix):
    def make(backbone):
        return _prefixed(_official(backbone), prefix) | _heads("module.head.bias", "module.bias")

    return make


PEAC_HEADS = ("mlp.0.weight", "mlp.6.weight", "mlp_local.0.weight", "head.weight", "bias", "decoder.0.bias")


def _peac(teacher_prefix):
    def make(backbone):
        other = _swin(seed=9, in_channels=3)
        heads = _heads(*PEAC_HEADS)
        return {
            "student": _prefixed({**_prefixed(_official(backbone), "swin_model."), **heads}, "module."),
            "teacher": _prefixed({**_prefixed(_official(other), "swin_model."), **heads}, teacher_prefix),
            "optimizer": {},
            "epoch": 3,
        }

    return make


def _peac_model(backbone):
    return {"model": _prefixed({**_prefixed(_official(backbone), "swin_model."), **_heads(*PEAC_HEADS)}, "module.")}


LAYOUTS = {
    "popar training": (_popar_training, "popar"),
    "popar published": (_popar_published("module."), "popar"),
    "popar published, backbone": (_popar_published("backbone."), "popar"),
    "popar published, nested": (_popar_published("module.backbone.swin_model."), "popar"),
    "peac": (_peac("module."), "peac"),
    "peac, several machines": (_peac(""), "peac"),
    "peac, one network": (_peac_model, "peac"),
    "official swin": (lambda b: {"model": _official(b) | _heads("head.weight", "head.bias")}, "swin"),
    "official swin, flat": (lambda b: _official(b) | _heads("head.bias"), "swin"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_source_networks_features(layout, tmp_path):
    make, family = LAYOUTS[layout]
    source = _swin(seed=1, in_channels=3)
    torch.save(make(source), tmp_path / "x.pth")
    target = _swin(seed=2, in_channels=3)
    report = load_backbone(target, tmp_path / "x.pth")
    image = torch.randn(1, 3, 32, 32)
    assert torch.equal(target(image), source(image))
    assert report.family == family
    assert set(report.loaded) == set(source.state_dict())
    assert report.missing == ()
    assert any("relative_position_index" in key for key in report.dropped)
    assert report.sha256 == hashlib.sha256((tmp_path / "x.pth").read_bytes()).hexdigest()


def test_student_and_teacher(tmp_path):
    source = _swin(seed=1, in_channels=3)
    for prefix in ("", "module."):
        torch.save(_peac(prefix)(source), tmp_path / "x.pth")
        target = _swin(seed=2, in_channels=3)
        assert load_backbone(target, tmp_path / "x.pth", branch="teacher").branch == "teacher"
        assert torch.equal(target.norm.weight, _swin(seed=9, in_channels=3).norm.weight)
        assert torch.equal(target.patch_embed.proj.weight, _swin(seed=9, in_channels=3).patch_embed.proj.weight)


def test_a_radiograph_file_for_grey_images(tmp_path):
    source = _swin(seed=1, in_channels=3)
    torch.save(_popar_training(source), tmp_path / "x.pth")
    target = _swin(seed=2)
    report = load_backbone(target, tmp_path / "x.pth")
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(target(image), source(image.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-5)
    assert "converted from 3 channels to 1" in report.notes[0]
    assert target.norm.weight.dtype == torch.float32


def test_an_imagenet_file_for_grey_images(tmp_path):
    source = _swin(seed=1, in_channels=3)
    torch.save({"model": _official(source)}, tmp_path / "x.pth")
    target = _swin(seed=2)
    load_backbone(target, tmp_path / "x.pth", mean=0.4, std=0.3)
    grey = torch.rand(1, 1, 32, 32)
    colour = (grey - IMAGENET_MEAN.reshape(3, 1, 1)) / IMAGENET_STD.reshape(3, 1, 1)
    torch.testing.assert_close(target((grey - 0.4) / 0.3), source(colour), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": _prefixed(s, "module.")}])
def test_torchvision_resnet(wrap, tmp_path):
    torch.manual_seed(1)
    source = ResNetBackbone(in_channels=3, depth=18).eval()
    state = dict(source.state_dict()) | _heads("fc.weight", "fc.bias")
    torch.save(wrap(state), tmp_path / "x.pth")
    target = ResNetBackbone(depth=18, stem="expand").eval()
    report = load_backbone(target, tmp_path / "x.pth", mean=0.4, std=0.3)
    assert report.family == "torchvision_resnet"
    grey = torch.rand(1, 1, 64, 64)
    colour = (grey - IMAGENET_MEAN.reshape(3, 1, 1)) / IMAGENET_STD.reshape(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(target((grey - 0.4) / 0.3), source(colour), rtol=1e-4, atol=1e-4)


def test_our_own_encoders_and_training_checkpoints(tmp_path):
    source, teacher = _swin(seed=1), _swin(seed=3)
    save_encoder(source, tmp_path, image_size=32, mean=0.5, std=0.25)
    heads = _heads("global_head.0.weight", "teacher.global_head.0.weight")
    method = _prefixed(source.state_dict(), "backbone.") | _prefixed(teacher.state_dict(), "teacher.backbone.") | heads
    torch.save({"method": method, "step": 3}, tmp_path / "checkpoint.pt")
    for name in ("model.pt", "model.safetensors", "checkpoint.pt"):
        target = _swin(seed=2)
        assert load_backbone(target, tmp_path / name).family == "monai_anat"
        assert torch.equal(target.layers[0].blocks[0].attn.qkv.weight, source.layers[0].blocks[0].attn.qkv.weight)
    load_backbone(target, tmp_path / "checkpoint.pt", branch="teacher")
    assert torch.equal(target.norm.weight, teacher.norm.weight)
    assert torch.equal(target.patch_embed.proj.weight, teacher.patch_embed.proj.weight)


def test_safetensors_in_the_official_layout(tmp_path):
    source = _swin(seed=1)
    safetensors.torch.save_file(_official(source), tmp_path / "x.safetensors")
    target = _swin(seed=2)
    assert load_backbone(target, tmp_path / "x.safetensors").family == "swin"
    assert torch.equal(target.patch_embed.proj.weight, source.patch_embed.proj.weight)


def test_a_command_line_in_the_file_does_no_harm(tmp_path):
    content = _peac("module.")(_swin(seed=1)) | {"args": argparse.Namespace(lr=0.1)}
    torch.save(content, tmp_path / "x.pth")
    load_backbone(_swin(seed=2), tmp_path / "x.pth")


def test_half_precision_files_are_widened_before_the_stem_is_summed(tmp_path):
    state = {name: v.half() for name, v in _swin(seed=1, in_channels=3).state_dict().items()}
    torch.save({"model": state}, tmp_path / "x.pth")
    target = _swin(seed=2)
    load_backbone(target, tmp_path / "x.pth", family="popar")
    expected = state["patch_embed.proj.weight"].double().sum(1, keepdim=True).float()
    assert torch.equal(target.patch_embed.proj.weight, expected)
    assert target.norm.weight.dtype == torch.float32


def test_swin_v2_is_named(tmp_path):
    state = _official(_swin(seed=1)) | {
        "layers.0.blocks.0.attn.logit_scale": torch.ones(1, 1, 1),
        "layers.0.blocks.0.attn.cpb_mlp.0.weight": torch.ones(2, 2),
    }
    state = {name: v for name, v in state.items() if "bias_table" not in name}
    for content in (_prefixed(state, "module.swin_model."), {"model": state}):
        torch.save(content, tmp_path / "x.pth")
        with pytest.raises(ValueError, match=r"Swin Transformer V2.*use the Swin V1 file"):
            load_backbone(_swin(), tmp_path / "x.pth")


def test_another_architecture_is_named_and_leaves_the_backbone_alone(tmp_path):
    torch.save({"model": _official(_swin(seed=1, in_channels=3))}, tmp_path / "x.pth")
    target = _swin(seed=2, embed_dim=32)
    before = {name: v.clone() for name, v in target.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=r"patch_embed\.proj\.weight must be \(32, 1, 4, 4\), the file has \(16, 1, 4, 4\); "
        r"the file fits SwinBackbone\(spatial_dims=2, embed_dim=16, depths=\(2, 2\), num_heads=\(1, 2\), window_size=4",
    ):
        load_backbone(target, tmp_path / "x.pth")
    assert all(torch.equal(v, before[name]) for name, v in target.state_dict().items())
    with pytest.raises(ValueError, match=r"layers\.0\.blocks\.2\..* the file does not have it"):
        load_backbone(_swin(depths=(3, 2)), tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"the backbone has no place for layers\.1\.blocks\.1\."):
        load_backbone(_swin(depths=(2, 1)), tmp_path / "x.pth")
    with pytest.raises(ValueError, match="the file fits SwinBackbone"):
        load_backbone(ResNetBackbone(depth=18), tmp_path / "x.pth")


def test_without_strict_the_rest_is_reported(tmp_path):
    torch.save({"model": _official(_swin(seed=1))}, tmp_path / "x.pth")
    target = _swin(seed=2, depths=(3, 2))
    report = load_backbone(target, tmp_path / "x.pth", strict=False)
    assert report.missing
    assert all(name.startswith("layers.0.blocks.2.") for name in report.missing)
    assert "does not fit" in str(report)
    with pytest.raises(ValueError, match="does not fit"):  # nothing at all fits
        load_backbone(ViTBackbone(image_size=32, embed_dim=24, depth=1, num_heads=1), tmp_path / "x.pth", strict=False)


def test_another_epsilon_is_noted(tmp_path, caplog):
    torch.save({"model": _official(_swin(seed=1))}, tmp_path / "x.pth")
    report = load_backbone(_swin(norm_eps=1e-6), tmp_path / "x.pth")
    assert any("norm_eps=1e-05" in note for note in report.notes)
    assert "norm_eps" in caplog.text


def test_wrong_arguments_and_files_are_named(tmp_path):
    torch.save({"model": _official(_swin(seed=1))}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="family must be auto or one of monai_anat, peac, popar, swin"):
        load_backbone(_swin(), tmp_path / "x.pth", family="mae")
    with pytest.raises(ValueError, match="branch must be one of student for a file of family swin"):
        load_backbone(_swin(), tmp_path / "x.pth", branch="teacher")
    with pytest.raises(ValueError, match=r"holds no teacher.*it has tensors under model"):
        load_backbone(_swin(), tmp_path / "x.pth", family="peac", branch="teacher")
    torch.save({"something": torch.ones(1)}, tmp_path / "y.pth")
    with pytest.raises(ValueError, match=r"of no family that load_backbone knows.*it begins with something"):
        load_backbone(_swin(), tmp_path / "y.pth")
    torch.save({"epoch": 3}, tmp_path / "z.pth")
    with pytest.raises(ValueError, match="it begins with no tensor at all"):
        load_backbone(_swin(), tmp_path / "z.pth")
    with pytest.raises(FileNotFoundError, match="there is none"):
        load_backbone(_swin(), tmp_path / "nowhere.pth")
