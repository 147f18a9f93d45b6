"""POPAR's files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (
            [
                "model/module.swin_model.patch_embed.proj.weight",
                "model/module.swin_model.layers.0.blocks.0.attn.qkv.weight",
            ],
            "popar",
        ),
        (["backbone.patch_embed.proj.weight", "backbone.layers.0.blocks.0.attn.qkv.weight", "module.bias"], "popar"),
        (["module.patch_embed.proj.weight", "module.blocks.0.attn.qkv.weight", "module.decoder.0.weight"], "popar"),
        (["model/backbone.patch_embed.proj.weight", "model/backbone.layers.0.blocks.0.attn.qkv.weight"], "swin"),
        (["module.patch_embed.proj.weight", "module.blocks.0.attn.qkv.weight", "module.head.bias"], "timm_vit"),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
