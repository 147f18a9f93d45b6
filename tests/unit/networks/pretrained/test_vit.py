"""Vision Transformer files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"], "timm_vit"),
        (["state_dict/model.patch_embed.proj.weight", "state_dict/model.blocks.0.attn.qkv.weight"], "timm_vit"),
        (["vit.encoder.layer.0.layernorm_before.weight"], "huggingface_vit"),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
