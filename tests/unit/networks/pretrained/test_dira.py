"""DiRA's files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (
            [
                "state_dict/module.encoder_q.backbone.encoder.conv1.weight",
                "state_dict/module.encoder_q.backbone.encoder.layer1.0.conv1.weight",
                "state_dict/module.encoder_q.backbone.decoder.blocks.0.conv1.0.weight",
            ],
            "dira",
        ),
        (
            [
                "state_dict/module.encoder.conv1.weight",
                "state_dict/module.encoder.layer1.0.conv1.weight",
                "state_dict/module.predictor.0.weight",
            ],
            "torchvision_resnet",
        ),
        (
            [
                "encoder.conv1.weight",
                "encoder.layer1.0.conv1.weight",
                "decoder.blocks.0.conv1.0.weight",
                "segmentation_head.0.weight",
            ],
            "torchvision_resnet",
        ),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
