"""ACE's files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (
            [
                "student/module.backbone.patch_embed.proj.weight",
                "student/module.backbone.layers.0.blocks.0.attn.qkv.weight",
                "student/module.DenseHead.mlp.0.weight",
            ],
            "ace",
        ),
        (["conv1.weight", "layer1.0.conv1.weight", "downsample.0.weight", "upsample.0.weight"], "torchvision_resnet"),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
