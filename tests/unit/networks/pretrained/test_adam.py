"""Adam's files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (
            [
                "state_dict/module.encoder_q.conv1.weight",
                "state_dict/module.encoder_q.layer1.0.conv1.weight",
                "=best_loss",
            ],
            "adam",
        ),
        (
            [
                "state_dict/module.encoder_q.conv1.weight",
                "state_dict/module.encoder_q.layer1.0.conv1.weight",
                "state_dict/module.encoder_q.fc.0.weight",
                "state_dict/module.queue",
            ],
            "moco",
        ),
        (["conv1.weight", "layer1.0.conv1.weight", "fc.0.weight", "fc.2.weight"], "torchvision_resnet"),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
