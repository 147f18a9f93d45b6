"""ConvNeXt files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (["model/downsample_layers.0.0.weight", "model/stages.0.0.dwconv.weight"], "convnext"),
        (["stem.0.weight", "stages.0.blocks.0.conv_dw.weight"], "timm_convnext"),
        (["convnext.encoder.stages.0.layers.0.dwconv.weight"], "huggingface_convnext"),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
