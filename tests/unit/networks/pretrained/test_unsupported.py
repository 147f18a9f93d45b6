"""Networks that are recognized and refused with a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_anat.networks.pretrained.unsupported import check_supported

VIT = ["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ([*VIT, "blocks.0.ls1.gamma"], "LayerScale, such as DINOv2"),
        (["teacher/backbone.blocks.0.0.ls1.gamma"], "LayerScale, such as DINOv2"),
        (["embeddings.cls_token", "encoder.layer.0.layer_scale1.lambda1"], "DINOv2 network of Hugging Face"),
        ([*VIT, "storage_tokens", "blocks.0.ls1.gamma"], "a DINOv3 network"),
        ([*VIT, "rope_embed.periods"], "a DINOv3 network"),
        ([*VIT, "reg_token", "blocks.0.gamma_1"], "DINOv3 network of timm"),
        ([*VIT, "blocks.0.attn.q_bias"], "EVA-02"),
        ([*VIT, "dist_token"], "distilled DeiT"),
        (["visual.trunk.blocks.0.attn.qkv.weight"], "image-text model"),
        (["features.denseblock1.denselayer1.conv1.weight"], "wrap MONAI's DenseNet by as_backbone"),
        (["norms.3.weight", "downsample_layers.0.0.weight"], "DINOv3 ConvNeXt"),
        (["backbone.0.weight", "backbone.4.0.conv1.weight"], "RadImageNet"),
        (["conv1.0.weight", "layer1.0.conv1.weight"], "resnet50d .it has conv1.0.weight."),
        (["model/layers.0.blocks.0.attn.logit_scale", "model/layers.0.blocks.0.mlp.fc1.bias"], "Swin Transformer V2"),
    ],
)
def test_a_network_is_named_with_the_key_that_shows_it(keys: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_supported(keys, Path("x.pth"))


@pytest.mark.parametrize(
    "keys",
    [
        VIT,
        ["layers.0.blocks.0.attn.qkv.weight", "head.last_layer.weight_g"],
        ["encoder.conv1.weight", "encoder.layer1.0.conv1.weight", "decoder.blocks.0.conv1.0.weight"],
        ["stages.0.0.gamma", "downsample_layers.0.0.weight", "norm.weight"],
    ],
)
def test_other_networks_pass(keys: list[str]) -> None:
    check_supported(keys, Path("x.pth"))
