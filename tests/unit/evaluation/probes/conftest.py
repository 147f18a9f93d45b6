"""Labeled images and heads with known results."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_anat.networks.heads.part_whole_heads import CompositionHead


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> Callable[[str, int, Callable[[int], Any]], list[dict]]:
    """A function of a split, a count and the label of each number: images of four gray levels in turn."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("training", "validation", "test")}

    def write(split: str, count: int, label: Callable[[int], Any]) -> list[dict]:
        items = []
        folder: Path = folders[split]
        generator = np.random.default_rng(len(folder.name) + count)
        for number in range(count):
            level = (0, 77, 153, 255)[number % 4]
            image = np.full((48, 48), level, np.uint8)
            image[0] = generator.integers(0, 256, size=48)  # no two images are equal
            path = folder / f"{number}.png"
            Image.fromarray(image).save(path)
            items.append({"image": str(path), "patient": f"{folder.name}-{number}", "label": label(number)})
        return items

    return write


@pytest.fixture(scope="module")
def splits(pictures) -> Callable[[Callable[[int], Any]], list[list[dict]]]:
    """A function of the label of each number: 24 training, 8 validation and 20 test images."""
    return lambda label: [pictures(*split, label) for split in (("training", 24), ("validation", 8), ("test", 20))]


@pytest.fixture(scope="session")
def averaging_head() -> Callable[..., CompositionHead]:
    """A function of the width and the number of parts: a head that gives the mean of parts with positive features."""

    def build(features: int, parts: int = 4) -> CompositionHead:
        head = CompositionHead(features, parts)
        with torch.no_grad():
            head[0].weight.copy_(torch.eye(features).repeat(1, parts) / parts)
            head[2].weight.copy_(torch.eye(features))
            head[0].bias.zero_()
            head[2].bias.zero_()
        return head

    return build
