"""Swin Transformer files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (["model/patch_embed.proj.weight", "model/layers.0.blocks.0.attn.qkv.weight"], "swin"),
        (["patch_embed.proj.weight", "layers.0.blocks.0.attn.qkv.weight"], "swin"),
        (
            [
                "state_dict/module.backbone.patch_embed.proj.weight",
                "state_dict/module.backbone.layers.0.blocks.0.attn.qkv.weight",
            ],
            "swin",
        ),
        (["swin.encoder.layers.0.blocks.0.layernorm_before.weight"], "huggingface_swin"),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
