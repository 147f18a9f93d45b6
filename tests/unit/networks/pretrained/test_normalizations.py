"""Statistics of training images: by name, as numbers, from configuration files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from monai_anat.networks.backbones.stems import Normalization
from monai_anat.networks.pretrained.normalizations import (
    HALF,
    IMAGENET,
    as_normalization,
    read_normalization_beside,
)


def test_names_and_numbers() -> None:
    assert as_normalization("imagenet") is IMAGENET
    assert as_normalization(None) is None
    assert as_normalization("0.5,0.5") == HALF == as_normalization((0.5, 0.5))
    assert as_normalization("0.485,0.456,0.406,0.229,0.224,0.225") == IMAGENET
    assert as_normalization(HALF) is HALF


@pytest.mark.parametrize("value", ["imagnet", "0.5", "0.5,0", "0.5,-1", "nan,1", "a,b", (1, 2, 3), "0.5,inf"])
def test_impossible_values_are_named(value: Any) -> None:
    with pytest.raises(ValueError, match=r"normalization must be one of imagenet, half.*MEAN,STD.*got"):
        as_normalization(value)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("preprocessor_config.json", {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}),
        ("config.json", {"pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}}),
        ("config.json", {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}),
    ],
)
def test_configurations_beside_the_file(name: str, content: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / name).write_text(json.dumps(content))
    expected = Normalization((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    assert read_normalization_beside(tmp_path / "model.safetensors") == expected
    assert read_normalization_beside(tmp_path / "other.safetensors") is None


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"image_mean": [0.5], "image_std": [0]}', '{"image_mean": ["a"], "image_std": [1]}']
)
def test_broken_configurations_are_ignored(text: str, tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    assert read_normalization_beside(tmp_path / "model.safetensors") is None
