"""ResNet files with torchvision's names have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (["conv1.weight", "layer1.0.conv1.weight"], "torchvision_resnet"),
        (
            ["state_dict/module.encoder.conv1.weight", "state_dict/module.encoder.layer1.0.conv1.weight"],
            "torchvision_resnet",
        ),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
