"""Synthesized files of every family load strictly and give the features of the source network."""

from __future__ import annotations

import argparse
import hashlib
import re

import pytest
import safetensors.torch
import torch
from monai.networks.nets import ResNet

from monai_anat.networks import (
    ConvNeXtBackbone,
    GatedBackbone,
    ResNetBackbone,
    SwinBackbone,
    ViTBackbone,
    as_backbone,
    initialize_from,
    load_backbone,
    save_encoder,
)
from monai_anat.networks.backbones.stems import Normalization

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


def test_a_radiograph_file_for_gray_images(tmp_path):
    source = _swin(seed=1, in_channels=3)
    torch.save(_popar_training(source), tmp_path / "x.pth")
    target = _swin(seed=2)
    report = load_backbone(target, tmp_path / "x.pth")
    image = torch.randn(1, 1, 32, 32)
    torch.testing.assert_close(target(image), source(image.expand(-1, 3, -1, -1)), rtol=1e-5, atol=1e-5)
    assert "converted from 3 channels to 1" in report.notes[0]
    assert target.norm.weight.dtype == torch.float32


def test_an_imagenet_file_for_gray_images(tmp_path):
    source = _swin(seed=1, in_channels=3)
    torch.save({"model": _official(source)}, tmp_path / "x.pth")
    target = _swin(seed=2)
    load_backbone(target, tmp_path / "x.pth", mean=0.4, std=0.3)
    gray = torch.rand(1, 1, 32, 32)
    color = (gray - IMAGENET_MEAN.reshape(3, 1, 1)) / IMAGENET_STD.reshape(3, 1, 1)
    torch.testing.assert_close(target((gray - 0.4) / 0.3), source(color), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"state_dict": _prefixed(s, "module.")}])
def test_torchvision_resnet(wrap, tmp_path):
    torch.manual_seed(1)
    source = ResNetBackbone(in_channels=3, depth=18).eval()
    state = dict(source.state_dict()) | _heads("fc.weight", "fc.bias")
    torch.save(wrap(state), tmp_path / "x.pth")
    target = ResNetBackbone(depth=18, stem="expand").eval()
    report = load_backbone(target, tmp_path / "x.pth", mean=0.4, std=0.3)
    assert report.family == "torchvision_resnet"
    gray = torch.rand(1, 1, 64, 64)
    color = (gray - IMAGENET_MEAN.reshape(3, 1, 1)) / IMAGENET_STD.reshape(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(target((gray - 0.4) / 0.3), source(color), rtol=1e-4, atol=1e-4)


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
    with pytest.raises(ValueError, match=r"the backbone has no layers\.1\.blocks\.1\."):
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
    with pytest.raises(ValueError, match="family must be auto or one of monai_anat, peac, adam_v2, lamps"):
        load_backbone(_swin(), tmp_path / "x.pth", family="masked")
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


# The families that came later: how each of their files is laid out, as its specification says.


def _double(state):
    return {name: v.double() if v.is_floating_point() else v for name, v in state.items()}


def _resnet(seed, in_channels=3, depth=18):
    torch.manual_seed(seed)
    backbone = ResNetBackbone(in_channels=in_channels, depth=depth).eval()
    for name, value in backbone.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2)
    return backbone


def _convnext(seed, in_channels=3):
    torch.manual_seed(seed)
    return ConvNeXtBackbone(in_channels=in_channels, depths=(1, 2), dims=(8, 16), layer_scale=0.5).eval()


def _vit(seed, in_channels=3, **changed):
    torch.manual_seed(seed)
    config = {"image_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 3, "class_token": True}
    return ViTBackbone(in_channels=in_channels, **{**config, **changed}).eval()


def _swin_6(seed, in_channels=3):
    return _swin(seed, in_channels=in_channels, norm_eps=1e-6)


LAMPS_HEADS = (
    *("peac_global.mlp.0.weight", "peac_global.last_layer.weight_g", "peac_local.mlp.0.weight"),
    *("vitdecoder.blocks.0.norm1.weight", "vitdecoder.norm.weight", "popar_head.weight", "bias"),
    *("composer.layer.6.weight", "decomposer.layer.0.bias"),
)
ACE_HEADS = ("head.mlp.0.weight", "DenseHead.mlp.0.weight", "upsample.layer.0.weight", "downsample.layer.0.weight")


def _dense_swin(backbone, heads, *unused):
    """What a network of Lamps or ACE holds: the backbone with its unused parameters, and heads beside it."""
    inner = {name: v for name, v in _official(backbone).items() if "attn_mask" not in name}
    return _prefixed(inner | _heads(*unused), "backbone.") | _heads(*heads)


def _lamps(backbone):
    networks = [_dense_swin(b, LAMPS_HEADS, "mask_token", "absolute_pos_embed") for b in (backbone, _swin_6(9))]
    return {
        "student": _double(_prefixed(networks[0], "module.")),
        "teacher": networks[1],
        "optimizer": {"state": {}, "param_groups": []},
        "epoch": 301,
        "args": argparse.Namespace(arch="swin_base", clip_grad=0.8),
        "dino_loss": {"center": torch.zeros(1, 8)},
    }


def _ace(backbone):
    networks = [_dense_swin(b, ACE_HEADS, "mask_token") for b in (backbone, _swin_6(9))]
    names = ("student", "teacher")
    wrapped = {name: _prefixed(n, "module.") for name, n in zip(names, networks, strict=True)}
    return wrapped | {"args": argparse.Namespace(), "epoch": 1}


def _adam_training(backbone):
    state = _prefixed(backbone.state_dict(), "module.encoder_q.")
    state |= _prefixed(_resnet(9).state_dict(), "module.encoder_k.")
    state |= _heads("module.encoder_q.fc.0.weight", "module.encoder_q.fc.2.bias", "module.encoder_k.fc.0.weight")
    state |= {"module.queue": torch.zeros(128, 16), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"epoch": 200, "arch": "resnet50", "state_dict": state, "optimizer": {}, "best_loss": 0.5}


def _adam_best(backbone):
    return backbone.state_dict() | _heads("fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias")


def _adam_v2(wrapped):
    def make(backbone):
        other = type(backbone)(**backbone.config)
        prefix = "module." if wrapped else ""
        head = _heads("head.mlp.0.weight", "head.last_layer.weight_g", "head.last_layer.weight_v")
        return {
            "student": _prefixed(_prefixed(other.state_dict(), "backbone.") | head, "module."),
            "teacher": _prefixed(_prefixed(backbone.state_dict(), "backbone.") | head, prefix),
            "localizability_loss": {"center": torch.zeros(1, 8)},
            "epoch": 3,
        }

    return make


def _adam_v2_late(backbone):
    content = _adam_v2(True)(backbone)
    teacher = _prefixed(backbone.state_dict(), "module.teacher.backbone.") | _heads("module.teacher.head.mlp.0.weight")
    return content | {"model": teacher | _heads("module.composability_head.0.weight")}


def _adam_v2_model_only(backbone):
    return {"model": _adam_v2_late(backbone)["model"]}


def _adam_v2_flat(prefix):
    def make(backbone):
        state = _prefixed(backbone.state_dict(), f"module.{prefix}backbone.") | _heads(
            f"module.{prefix}head.mlp.0.weight"
        )
        other = type(backbone)(**backbone.config).state_dict()
        return state | (_prefixed(other, "module.student.backbone.") if prefix else {})

    return make


def _adam_v2_bare(backbone):
    return {
        "student": type(backbone)(**backbone.config).state_dict(),
        "teacher": backbone.state_dict() | _heads("head.bias"),
    }


def _dira(prefix="", outer=None):
    def make(backbone):
        unet = _prefixed(backbone.state_dict(), "encoder.")
        unet |= _heads("decoder.blocks.0.conv1.0.weight", "segmentation_head.0.weight", "encoder.fc.weight")
        if outer is None:
            return unet
        others = _prefixed(_resnet(9).state_dict(), "module.encoder_k.backbone.encoder.")
        state = _prefixed(unet, prefix) | others | _heads("module.queue", "module.encoder_q.fc.0.weight")
        return {outer: state, "best_loss": 1.0}

    return make


def _mlvicx_state(backbone, seed=5):
    """A ResNet as an unnamed sequence of its layers; gates and heads beside it."""
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    parts = {name: name.partition(".") for name in backbone.state_dict()}
    state = {f"encoder.{places[first]}.{rest}": backbone.state_dict()[n] for n, (first, _, rest) in parts.items()}
    state |= _heads("projetion.l1.0.weight", "projetion.l2.1.running_mean", "resize_project.0.weight")
    torch.manual_seed(seed)
    gates = GatedBackbone(backbone=ResNetBackbone(depth=18)).gates
    names = {"channel_mlp.0.weight": "ca.fc.0.weight", "channel_mlp.2.weight": "ca.fc.2.weight"}
    names["position_conv.weight"] = "sa.conv.weight"
    for number, gate in enumerate(gates, start=1):
        state |= {f"cbt{number}.{names[name]}": value for name, value in gate.state_dict().items()}
    return state, gates


def _mlvicx(outer):
    return lambda backbone: {outer: _mlvicx_state(backbone)[0], "config": {"lr": 0.2}, "steps": 4}


def _huggingface_vit(backbone):
    """Published names; query, key and value apart."""
    state = {}
    for name, value in backbone.state_dict().items():
        for ours, theirs in {
            "blocks.": "encoder.layer.",
            "norm1": "layernorm_before",
            "norm2": "layernorm_after",
            "attn.proj": "attention.output.dense",
            "mlp.fc1": "intermediate.dense",
            "mlp.fc2": "output.dense",
            "patch_embed.proj": "embeddings.patch_embeddings.projection",
            "cls_token": "embeddings.cls_token",
            "pos_embed": "embeddings.position_embeddings",
        }.items():
            name = name.replace(ours, theirs)
        name = f"vit.{name}" if not name.startswith("norm.") else f"vit.layernorm.{name.removeprefix('norm.')}"
        if ".attn.qkv." in name:
            for part, tensor in zip(("query", "key", "value"), value.chunk(3), strict=True):
                state[name.replace(".attn.qkv.", f".attention.attention.{part}.")] = tensor
        else:
            state[name] = value
    return state | _heads("vit.pooler.dense.weight", "classifier.weight")


def _timm_swin(backbone):
    state = backbone.state_dict() | _heads("head.fc.weight", "head.fc.bias")
    return {name.replace("layers.0.downsample", "layers.1.downsample"): value for name, value in state.items()}


def _timm_convnext(backbone):
    state = {}
    for name, value in backbone.state_dict().items():
        name = name.replace("downsample_layers.0", "stem").replace("dwconv", "conv_dw").replace("pwconv", "mlp.fc")
        name = re.sub(r"^downsample_layers\.(\d)", r"stages.\1.downsample", name)
        name = re.sub(r"^stages\.(\d)\.(\d)\.(?=conv_dw|norm|mlp|gamma)", r"stages.\1.blocks.\2.", name)
        state[re.sub(r"^norm\.", "head.norm.", name)] = value
    return state | _heads("head.fc.weight", "head.fc.bias")


#: layout -> (content of the file, source and target by seed, family, normalization of the training images)
LATER = {
    "lamps": (_lamps, _swin_6, "lamps", "radiograph"),
    "ace": (_ace, _swin_6, "ace", "radiograph"),
    "adam, training": (_adam_training, _resnet, "adam", "imagenet"),
    "adam, best": (_adam_best, _resnet, "torchvision_resnet", "imagenet"),
    "adam, two prefixes": (
        lambda b: {"state_dict": _prefixed(_adam_best(b), "module.module.")},
        _resnet,
        "torchvision_resnet",
        "",
    ),
    "adam_v2, resnet": (_adam_v2(True), _resnet, "adam_v2", "imagenet"),
    "adam_v2, convnext": (_adam_v2(False), _convnext, "adam_v2", "imagenet"),
    "adam_v2, later stages": (_adam_v2_late, _convnext, "adam_v2", "imagenet"),
    "adam_v2, model": (_adam_v2_model_only, _convnext, "adam_v2", "imagenet"),
    "adam_v2, flat": (_adam_v2_flat(""), _convnext, "convnext", "imagenet"),
    "student and teacher": (_adam_v2_bare, _convnext, "student_teacher", ""),
    "resnet, prefixed": (
        lambda b: {"state_dict": _prefixed(b.state_dict() | _heads("fc.bias"), "module.backbone.")},
        _resnet,
        "torchvision_resnet",
        "",
    ),
    "mlvicx, epoch": (_mlvicx("online"), _resnet, "mlvicx", "imagenet"),
    "mlvicx": (_mlvicx("model"), _resnet, "mlvicx", "imagenet"),
    "u-net": (_dira(), _resnet, "torchvision_resnet", "imagenet"),
    "dira, training": (_dira("module.encoder_q.backbone.", "state_dict"), _resnet, "dira", "none"),
    "dira, training, other nesting": (_dira("module.encoder_q.", "state_dict"), _resnet, "dira", "none"),
    "timm swin": (_timm_swin, _swin, "swin", "imagenet"),
    "timm vit": (lambda b: b.state_dict() | _heads("head.weight"), _vit, "timm_vit", ""),
    "timm convnext": (_timm_convnext, _convnext, "timm_convnext", "imagenet"),
    "hugging face vit": (_huggingface_vit, _vit, "huggingface_vit", ""),
    "official convnext": (lambda b: {"model": b.state_dict() | _heads("head.bias")}, _convnext, "convnext", "imagenet"),
}
TRAINED_ON = {
    "radiograph": (torch.full((3,), 0.5056), torch.full((3,), 0.252)),
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "half": (torch.full((3,), 0.5), torch.full((3,), 0.5)),
    "none": (torch.zeros(3), torch.ones(3)),
}


@pytest.mark.parametrize("layout", LATER)
def test_every_later_layout_gives_the_source_networks_features(layout, tmp_path):
    make, build, family, _ = LATER[layout]
    source = build(1, in_channels=3)
    torch.save(make(source), tmp_path / "x.pth")
    target = build(2, in_channels=3)
    report = load_backbone(target, tmp_path / "x.pth")
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(target(image), source(image))
    assert report.family == family
    assert report.branch == ("teacher" if family in ("adam_v2", "student_teacher") else "student")
    assert set(report.loaded) == set(source.state_dict())
    assert report.missing == ()
    assert report.dropped


@pytest.mark.parametrize("layout", [name for name, (*_, trained) in LATER.items() if trained])
def test_every_later_layout_for_gray_images(layout, tmp_path):
    make, build, _, trained = LATER[layout]
    source, target = build(1, in_channels=3), build(2, in_channels=1)
    if isinstance(target, ResNetBackbone):
        target = ResNetBackbone(depth=18, stem="expand").eval()
    torch.save(make(source), tmp_path / "x.pth")
    load_backbone(target, tmp_path / "x.pth", mean=0.4, std=0.3)
    gray = torch.rand(1, 1, 32, 32)
    mean, std = (v.reshape(3, 1, 1) for v in TRAINED_ON[trained])
    with torch.no_grad():
        torch.testing.assert_close(target((gray - 0.4) / 0.3), source((gray - mean) / std), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layout", ["lamps", "ace", "adam, training", "dira, training"])
def test_the_teacher_of_later_layouts(layout, tmp_path):
    make, build, _, _ = LATER[layout]
    torch.save(make(build(1)), tmp_path / "x.pth")
    target = build(2)
    load_backbone(target, tmp_path / "x.pth", branch="teacher")
    image = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(target(image), build(9)(image))


def test_adam_v2_can_give_its_student(tmp_path):
    source = _convnext(1)
    content = _adam_v2(False)(source)
    torch.save(content, tmp_path / "x.pth")
    target = _convnext(2)
    assert load_backbone(target, tmp_path / "x.pth", branch="student").branch == "student"
    weight = content["student"]["module.backbone.stages.0.0.dwconv.weight"]
    assert torch.equal(target.stages[0][0].dwconv.weight, weight)


def test_the_gates_of_mlvicx_stay_where_there_is_a_place_for_them(tmp_path):
    source = _resnet(1)
    state, gates = _mlvicx_state(source)
    torch.save({"online": state}, tmp_path / "x.pth")
    expected = GatedBackbone(backbone=_resnet(1)).eval()
    expected.gates.load_state_dict(gates.state_dict())
    target = GatedBackbone(backbone=_resnet(2)).eval()
    report = load_backbone(target, tmp_path / "x.pth")
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(target(image), expected(image))
    assert set(report.loaded) == set(target.state_dict())
    assert report.notes == ()
    plain = load_backbone(_resnet(2), tmp_path / "x.pth")
    assert any("gates were dropped" in note for note in plain.notes)
    assert "cbt5.sa.conv.weight" in plain.dropped


def test_the_gates_of_mlvicx_are_told_by_their_shapes(tmp_path):
    state, gates = _mlvicx_state(_resnet(1))
    renamed = {name.replace(".ca.fc.", ".mlp.").replace(".sa.conv.", ".conv."): value for name, value in state.items()}
    torch.save({"online": renamed}, tmp_path / "x.pth")
    target = GatedBackbone(backbone=_resnet(2))
    assert load_backbone(target, tmp_path / "x.pth").missing == ()
    assert_same(target.gates.state_dict(), gates.state_dict())


@pytest.mark.parametrize("layout", ["adam, best", "adam_v2, resnet", "mlvicx", "u-net"])
def test_files_from_before_batches_were_counted(layout, tmp_path):
    make, build, family, _ = LATER[layout]
    source = build(1)

    def uncounted(content):
        if not isinstance(content, dict):
            return content
        return {name: uncounted(value) for name, value in content.items() if "num_batches_tracked" not in name}

    torch.save(uncounted(make(source)), tmp_path / "x.pth")
    target = build(2)
    report = load_backbone(target, tmp_path / "x.pth")
    assert (report.family, report.missing) == (family, ())
    assert_same(dict(target.named_parameters()), dict(source.named_parameters()))
    assert torch.equal(target.layer4[1].bn2.running_var, source.layer4[1].bn2.running_var)


def test_a_backbone_with_gates_converts_its_stem_and_comes_back_from_our_own_files(tmp_path):
    source = _resnet(1)
    torch.save({"online": _mlvicx_state(source)[0]}, tmp_path / "x.pth")
    target = GatedBackbone(backbone=ResNetBackbone(depth=18)).eval()
    report = load_backbone(target, tmp_path / "x.pth")
    assert "exact but at the image's border" in report.notes[0]
    save_encoder(target, tmp_path, image_size=64, mean=0.5, std=0.25)
    torch.save({"method": _prefixed(target.state_dict(), "backbone.") | _heads("head.bias")}, tmp_path / "c.pt")
    for name in ("model.pt", "c.pt"):
        again = GatedBackbone(backbone=ResNetBackbone(depth=18)).eval()
        assert load_backbone(again, tmp_path / name).missing == ()
        assert all(torch.equal(v, target.state_dict()[name]) for name, v in again.state_dict().items())


def test_another_network_than_resnet18_is_named_for_mlvicx(tmp_path):
    torch.save({"online": _mlvicx_state(_resnet(1))[0]}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"has 120 tensors and the backbone 216; its authors train ResNetBackbone"):
        load_backbone(_resnet(2, depth=34), tmp_path / "x.pth")


def test_norm_eps_of_the_family_is_reported(tmp_path, caplog):
    torch.save(_lamps(_swin_6(1)), tmp_path / "x.pth")
    report = load_backbone(_swin(2, in_channels=3), tmp_path / "x.pth")
    assert report.norm_eps == 1e-6
    assert "lamps weights were trained with norm_eps=1e-06, the backbone has norm_eps=1e-05" in caplog.text
    assert load_backbone(_swin_6(2), tmp_path / "x.pth").notes == ()


def test_other_training_images_can_be_said(tmp_path):
    source, target = _vit(1), _vit(2, in_channels=1)
    torch.save(source.state_dict(), tmp_path / "x.pth")
    imagenet = Normalization(tuple(IMAGENET_MEAN.tolist()), tuple(IMAGENET_STD.tolist()))
    load_backbone(target, tmp_path / "x.pth", mean=0.4, std=0.3, normalization=imagenet)
    gray = torch.rand(1, 1, 32, 32)
    color = (gray - IMAGENET_MEAN.reshape(3, 1, 1)) / IMAGENET_STD.reshape(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(target((gray - 0.4) / 0.3), source(color), rtol=1e-4, atol=1e-4)


class _Surprise:
    """A class that no file of weights needs."""


@pytest.mark.parametrize("layout", ["lamps", "ace"])
def test_a_command_line_is_the_only_class_that_is_read(layout, tmp_path):
    make, build, _, _ = LATER[layout]
    torch.save(make(build(1)) | {"extra": _Surprise()}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"is refused: it holds a pickled .*_Surprise"):
        load_backbone(build(2), tmp_path / "x.pth")


def test_convnext_v2_is_named(tmp_path):
    state = _convnext(1).state_dict() | _heads("stages.0.0.grn.gamma")
    torch.save({"model": state}, tmp_path / "x.pth")
    with pytest.raises(
        ValueError, match=r"the backbone has no stages\.0\.0\.grn\.gamma; the file, too, looks like ConvNeXtBackbone"
    ):
        load_backbone(_convnext(2), tmp_path / "x.pth")


def test_a_backbone_with_gates_starts_from_a_network_without(tmp_path):
    source = _resnet(1)
    torch.save(
        {**source.state_dict(), "fc.weight": torch.zeros(10, 512), "fc.bias": torch.zeros(10)}, tmp_path / "r.pth"
    )
    target = GatedBackbone(backbone=ResNetBackbone(depth=18, in_channels=3))
    gates = {name: value.clone() for name, value in target.gates.state_dict().items()}
    report = load_backbone(target, tmp_path / "r.pth")
    assert (report.family, report.missing) == ("torchvision_resnet", ())
    assert any("no gates" in note for note in report.notes)
    assert_same(target.backbone.state_dict(), source.state_dict())
    assert_same(target.gates.state_dict(), gates)
    with pytest.raises(ValueError, match="the file fits"):
        load_backbone(GatedBackbone(backbone=ResNetBackbone(depth=50, in_channels=3)), tmp_path / "r.pth")


def test_a_run_may_start_from_a_file_or_from_nothing(tmp_path):
    source, target = _swin(0), _swin(1)
    torch.save({"model": source.state_dict()}, tmp_path / "swin.pth")
    before = {name: value.clone() for name, value in target.state_dict().items()}
    assert initialize_from(target, None) is target
    assert_same(target.state_dict(), before)
    assert initialize_from(target, tmp_path / "swin.pth") is target
    assert_same(target.state_dict(), source.state_dict())


def assert_same(state, expected):
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)


def test_simsiam_is_nobody_elses(tmp_path):
    source = _resnet(1)
    state = _prefixed(source.state_dict(), "module.encoder.") | _heads("module.encoder.fc.0.weight")
    torch.save({"epoch": 3, "state_dict": state | _heads("module.predictor.0.weight")}, tmp_path / "x.pth")
    target = ResNetBackbone(depth=18, stem="expand").eval()
    report = load_backbone(target, tmp_path / "x.pth", mean=0.4, std=0.3)
    assert (report.family, report.missing) == ("torchvision_resnet", ())
    assert any("are assumed; otherwise give normalization" in note for note in report.notes)
    gray = torch.rand(1, 1, 32, 32)
    color = (gray - IMAGENET_MEAN.reshape(3, 1, 1)) / IMAGENET_STD.reshape(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(target((gray - 0.4) / 0.3), source(color), rtol=1e-4, atol=1e-4)


def test_moco_is_not_adam(tmp_path):
    content = _adam_training(_resnet(1))
    del content["best_loss"]
    torch.save(content, tmp_path / "x.pth")
    target = _resnet(2)
    assert load_backbone(target, tmp_path / "x.pth").family == "moco"
    assert load_backbone(target, tmp_path / "x.pth", family="adam").family == "adam"
    load_backbone(target, tmp_path / "x.pth", branch="teacher")
    assert_same(target.state_dict(), _resnet(9).state_dict())


@pytest.mark.parametrize("given", ["imagenet", IMAGENET_MEAN.tolist() + IMAGENET_STD.tolist()])
def test_a_plain_vit_needs_its_statistics(given, tmp_path):
    source, target = _vit(1), _vit(2, in_channels=1)
    torch.save(source.state_dict(), tmp_path / "x.pth")
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"needs the mean and deviation of its training images.*--normalization"):
        load_backbone(target, tmp_path / "x.pth")
    assert_same(target.state_dict(), before)
    initialize_from(target, tmp_path / "x.pth", mean=0.4, std=0.3, normalization=given)
    gray = torch.rand(1, 1, 32, 32)
    color = (gray - IMAGENET_MEAN.reshape(3, 1, 1)) / IMAGENET_STD.reshape(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(target((gray - 0.4) / 0.3), source(color), rtol=1e-4, atol=1e-4)
    load_backbone(_vit(3), tmp_path / "x.pth")  # three channels need no statistics


def test_the_configuration_beside_the_file_names_the_statistics(tmp_path):
    source, target = _vit(1), _vit(2, in_channels=1)
    safetensors.torch.save_file(source.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text('{"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.5, 0.6, 0.7]}}')
    report = load_backbone(target, tmp_path / "model.safetensors")
    assert report.normalization == Normalization((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert any("configuration beside the file" in note for note in report.notes)


@pytest.mark.parametrize("key", ["blocks.0.ls1.gamma", "storage_tokens"])
def test_dinov2_and_dinov3_are_no_plain_vits(key, tmp_path):
    torch.save(_vit(1).state_dict() | _heads(key, width=24), tmp_path / "x.pth")
    for family in ("auto", "timm_vit"):
        with pytest.raises(ValueError, match=rf"DINOv[23].*it has {key}"):
            load_backbone(_vit(2), tmp_path / "x.pth", family=family, strict=False)


def test_resnet50d_is_named(tmp_path):
    state = ResNetBackbone(depth=50, in_channels=3).state_dict()
    state["conv1.0.weight"] = state.pop("conv1.weight")
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"deep stem, such as timm's resnet50d .it has conv1.0.weight"):
        load_backbone(ResNetBackbone(depth=50), tmp_path / "x.pth")


def test_what_was_given_is_never_named_as_what_would_fit(tmp_path):
    torch.save(_vit(1, image_size=64).state_dict(), tmp_path / "x.pth")
    with pytest.raises(ValueError, match=r"pos_embed must be .*the file, too, looks like ViT.*check image_size"):
        load_backbone(_vit(2), tmp_path / "x.pth")


def test_a_network_that_cannot_be_saved_is_refused_before_training():
    network = ResNet("basic", [1, 1, 1, 1], [8, 16, 24, 32], spatial_dims=2, n_input_channels=1)
    with pytest.raises(TypeError, match=r"AdaptedBackbone around ResNet has no record.*save_encoder takes"):
        initialize_from(as_backbone(network), None)
