"""Parameter names of other libraries, as their files hold them, converted to the official names."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks.pretrained import renames
from monai_anat.networks.pretrained.renames import by_shape, in_order

ATTENTION = {
    "published": ("attention.{inner}.query", "attention.{inner}.key", "attention.{inner}.value"),
    "version 5": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
}
REST = {
    "published": {"attention.output.dense": "attn.proj", "intermediate.dense": "mlp.fc1", "output.dense": "mlp.fc2"},
    "version 5": {"attention.o_proj": "attn.proj", "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"},
}


def _block(theirs, ours, release, inner):
    """One transformer block: (names of a file, names that come out)."""
    file, expected = {}, {}
    for kind in ("weight", "bias"):
        parts = [torch.full((2,), number) for number in (1.0, 2.0, 3.0)]
        names = [f"{theirs}.{name.format(inner=inner)}.{kind}" for name in ATTENTION[release]]
        file |= dict(zip(names, parts, strict=True))
        expected[f"{ours}.attn.qkv.{kind}"] = torch.cat(parts)
        for name, target in {"layernorm_before": "norm1", "layernorm_after": "norm2", **REST[release]}.items():
            file[f"{theirs}.{name}.{kind}"] = expected[f"{ours}.{target}.{kind}"] = torch.rand(1)
    return file, expected


def _same(got, expected):
    assert set(got) == set(expected)
    assert all(torch.equal(got[name], expected[name]) for name in expected)


def _plain(pairs):
    values = {name: torch.rand(1) for name in pairs}
    return values, {pairs[name]: value for name, value in values.items()}


@pytest.mark.parametrize("release", ATTENTION)
@pytest.mark.parametrize("outer", ["vit.", ""])
@pytest.mark.parametrize("stripped", [False, True])
def test_huggingface_vit(release, outer, stripped):
    layer = "layers" if release == "version 5" else "layer" if stripped else "encoder.layer"
    file, expected = _plain(
        {
            f"{outer}embeddings.cls_token": "cls_token",
            f"{outer}embeddings.position_embeddings": "pos_embed",
            f"{outer}embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
            f"{outer}layernorm.bias": "norm.bias",
        }
    )
    block, expected_block = _block(f"{outer}{layer}.11", "blocks.11", release, "attention")
    _same(renames.from_huggingface_vit(file | block), expected | expected_block)


@pytest.mark.parametrize("release", ATTENTION)
@pytest.mark.parametrize("outer", ["swin.encoder.", "encoder.", ""])
def test_huggingface_swin(release, outer):
    start = outer.removesuffix("encoder.")
    inner = "self" if release == "published" else "relative_position_bias"
    at = f"{outer}layers.1.blocks.0"
    file, expected = _plain(
        {
            f"{start}embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
            f"{start}embeddings.norm.weight": "patch_embed.norm.weight",
            f"{outer}layers.0.downsample.reduction.weight": "layers.0.downsample.reduction.weight",
            f"{at}.attention.{inner}.relative_position_bias_table": (
                "layers.1.blocks.0.attn.relative_position_bias_table"
            ),
            f"{start}layernorm.weight": "norm.weight",
        }
    )
    block, expected_block = _block(at, "layers.1.blocks.0", release, "self")
    _same(renames.from_huggingface_swin(file | block), expected | expected_block)


@pytest.mark.parametrize("outer", ["convnext.encoder.", "encoder.", ""])
def test_huggingface_convnext(outer):
    start = outer.removesuffix("encoder.")
    file, expected = _plain(
        {
            f"{start}embeddings.patch_embeddings.weight": "downsample_layers.0.0.weight",
            f"{start}embeddings.layernorm.bias": "downsample_layers.0.1.bias",
            f"{outer}stages.1.downsampling_layer.0.weight": "downsample_layers.1.0.weight",
            f"{outer}stages.1.downsampling_layer.1.weight": "downsample_layers.1.1.weight",
            f"{outer}stages.2.layers.26.dwconv.weight": "stages.2.26.dwconv.weight",
            f"{outer}stages.2.layers.26.layernorm.weight": "stages.2.26.norm.weight",
            f"{outer}stages.2.layers.26.pwconv1.weight": "stages.2.26.pwconv1.weight",
            f"{outer}stages.2.layers.26.pwconv2.weight": "stages.2.26.pwconv2.weight",
            f"{outer}stages.2.layers.26.layer_scale_parameter": "stages.2.26.gamma",
            f"{start}layernorm.weight": "norm.weight",
        }
    )
    _same(renames.from_huggingface_convnext(file), expected)


def test_timm_convnext():
    file, expected = _plain(
        {
            "stem.0.weight": "downsample_layers.0.0.weight",
            "stem.1.bias": "downsample_layers.0.1.bias",
            "stages.3.downsample.0.weight": "downsample_layers.3.0.weight",
            "stages.3.downsample.1.weight": "downsample_layers.3.1.weight",
            "stages.3.blocks.2.conv_dw.weight": "stages.3.2.dwconv.weight",
            "stages.3.blocks.2.norm.weight": "stages.3.2.norm.weight",
            "stages.3.blocks.2.mlp.fc1.weight": "stages.3.2.pwconv1.weight",
            "stages.3.blocks.2.mlp.fc2.bias": "stages.3.2.pwconv2.bias",
            "stages.3.blocks.2.gamma": "stages.3.2.gamma",
            "head.norm.weight": "norm.weight",
        }
    )
    _same(renames.from_timm_convnext(file), expected)


def test_timm_swin_counts_the_merging_to_the_next_stage_and_the_official_one_does_not():
    official = {f"layers.{s}.downsample.norm.weight": torch.rand(1) for s in range(3)}
    timm = {f"layers.{s + 1}.downsample.norm.weight": official[f"layers.{s}.downsample.norm.weight"] for s in range(3)}
    _same(renames.from_timm_swin(timm), official)
    _same(renames.from_timm_swin(official), official)


def test_tensors_in_order_take_the_names_of_their_places():
    state = {"0.weight": torch.zeros(2, 3, 7, 7), "1.bias": torch.zeros(2)}
    own = {"conv1.weight": torch.ones(2, 1, 7, 7), "bn1.bias": torch.ones(2)}
    placed = in_order(state, own)
    assert placed["conv1.weight"] is state["0.weight"]
    assert placed["bn1.bias"] is state["1.bias"]


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"0.weight": (2, 1, 7, 7)}, "has 1 tensors and the backbone 2"),
        ({"0.weight": (2, 1, 7, 7), "1.weight": (2,)}, r"tensor 1 is 1.weight \(2,\) in the file and bn1.bias"),
        ({"0.weight": (2, 1, 7, 7), "1.bias": (3,)}, r"tensor 1 is 1.bias \(3,\) in the file and bn1.bias \(2,\)"),
        ({"0.weight": (2, 1, 3, 3), "1.bias": (2,)}, r"tensor 0 is 0.weight \(2, 1, 3, 3\)"),
    ],
)
def test_what_does_not_agree_in_order_is_named(state, message):
    own = {"conv1.weight": torch.ones(2, 1, 7, 7), "bn1.bias": torch.ones(2)}
    with pytest.raises(ValueError, match=message):
        in_order({name: torch.zeros(shape) for name, shape in state.items()}, own)


def test_tensors_of_gates_are_told_by_module_and_shape():
    file = {f"cbt{n}.{name}": torch.rand(shape) for n in (2, 1) for name, shape in (("b", 2), ("a", 3), ("c", 2))}
    own = {f"gates.{n}.{name}": torch.zeros(shape) for n in (0, 1) for name, shape in (("x", 3), ("y", 2), ("z", 2))}
    placed = by_shape(file, own)
    assert placed.keys() == own.keys()
    for n in (0, 1):
        for ours, theirs in (("x", "a"), ("y", "b"), ("z", "c")):
            assert placed[f"gates.{n}.{ours}"] is file[f"cbt{n + 1}.{theirs}"]


def test_gates_that_do_not_agree_are_named():
    own = {"gates.0.x": torch.zeros(2), "gates.1.x": torch.zeros(2)}
    with pytest.raises(ValueError, match="the file has 1 gates and the backbone 2"):
        by_shape({"cbt1.a": torch.zeros(2)}, own)
    with pytest.raises(ValueError, match=r"gate 1 has tensors of \[\(3,\)\] in the file and \[\(2,\)\]"):
        by_shape({"cbt1.a": torch.zeros(2), "cbt2.a": torch.zeros(3)}, own)
