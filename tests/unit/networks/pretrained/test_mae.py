"""MAE's files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (["model/patch_embed.proj.weight", "model/blocks.0.attn.qkv.weight", "model/decoder_embed.weight"], "mae"),
        (["model/patch_embed.proj.weight", "model/blocks.0.attn.qkv.weight"], "timm_vit"),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
