"""PEAC's files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (
            [
                "student/module.swin_model.patch_embed.proj.weight",
                "student/module.swin_model.layers.0.blocks.0.attn.qkv.weight",
                "student/module.mlp.0.weight",
            ],
            "peac",
        ),
        (
            [
                "model/module.vit_model.patch_embed.proj.weight",
                "model/module.vit_model.blocks.0.attn.qkv.weight",
                "model/module.mlp_local.0.weight",
            ],
            "peac",
        ),
        (
            [
                "student/module.patch_embed.proj.weight",
                "student/module.layers.0.blocks.0.attn.qkv.weight",
                "student/module.mlp.0.weight",
            ],
            "student_teacher",
        ),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
