"""MoCo's files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (
            ["state_dict/module.encoder_q.conv1.weight", "state_dict/module.encoder_q.layer1.0.conv1.weight", "=epoch"],
            "moco",
        ),
        (
            [
                "state_dict/module.base_encoder.patch_embed.proj.weight",
                "state_dict/module.base_encoder.blocks.0.attn.qkv.weight",
                "state_dict/module.momentum_encoder.patch_embed.proj.weight",
                "state_dict/module.momentum_encoder.blocks.0.attn.qkv.weight",
            ],
            "moco_v3",
        ),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
