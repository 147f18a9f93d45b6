"""Student-teacher files (DINO, iBOT) have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (
            [
                "student/module.backbone.patch_embed.proj.weight",
                "student/module.backbone.blocks.0.attn.qkv.weight",
                "teacher/backbone.patch_embed.proj.weight",
                "teacher/backbone.blocks.0.attn.qkv.weight",
                "dino_loss/center",
            ],
            "dino",
        ),
        (
            [
                "teacher/backbone.patch_embed.proj.weight",
                "teacher/backbone.blocks.0.attn.qkv.weight",
                "teacher/backbone.masked_embed",
            ],
            "ibot",
        ),
        (
            [
                "student/downsample_layers.0.0.weight",
                "student/stages.0.0.dwconv.weight",
                "teacher/downsample_layers.0.0.weight",
                "teacher/stages.0.0.dwconv.weight",
            ],
            "student_teacher",
        ),
        (["patch_embed.proj.weight", "blocks.0.attn.qkv.weight"], "timm_vit"),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
