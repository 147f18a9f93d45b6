"""Adam-v2's files have marks of their own; neighbors without them are something else."""

from __future__ import annotations

from collections.abc import Callable

import pytest


@pytest.mark.parametrize(
    ("keys", "family"),
    [
        (
            [
                "teacher/module.backbone.downsample_layers.0.0.weight",
                "teacher/module.backbone.stages.0.0.dwconv.weight",
                "localizability_loss/center",
            ],
            "adam_v2",
        ),
        (
            [
                "model/module.teacher.backbone.downsample_layers.0.0.weight",
                "model/module.teacher.backbone.stages.0.0.dwconv.weight",
                "model/module.composability_head.0.weight",
            ],
            "adam_v2",
        ),
        (
            [
                "student/module.backbone.conv1.weight",
                "student/module.backbone.layer1.0.conv1.weight",
                "teacher/backbone.conv1.weight",
                "teacher/backbone.layer1.0.conv1.weight",
                "dino_loss/center",
            ],
            "dino",
        ),
    ],
)
def test_the_keys_tell_the_family(keys: list[str], family: str, detected: Callable[[list[str]], str]) -> None:
    assert detected(keys) == family
