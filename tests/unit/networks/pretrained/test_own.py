"""Training checkpoints of this package have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (
            ["method/backbone.patch_embed.proj.weight", "method/backbone.layers.0.blocks.0.attn.qkv.weight"],
            "monai_anat",
        ),
        (
            ["method/teacher.backbone.patch_embed.proj.weight", "method/teacher.backbone.blocks.0.attn.qkv.weight"],
            "monai_anat",
        ),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
