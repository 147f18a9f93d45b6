"""Check of one family of weights by the names of its keys alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from monai_anat.networks.pretrained.families import detect_family


@pytest.fixture
def detected() -> Callable[[Iterable[str]], str]:
    """The family of a file with the given keys; ``outer/inner`` is nested, ``=NAME`` a plain number."""

    def detect(keys: Iterable[str]) -> str:
        content: dict[str, Any] = {}
        for key in keys:
            outer, _, inner = key.rpartition("/")
            if key.startswith("="):
                content[key[1:]] = 0.5
            elif outer:
                content.setdefault(outer, {})[inner] = torch.ones(1)
            else:
                content[key] = torch.ones(1)
        return detect_family(content, {"weight": torch.ones(1)}, Path("x.pth"))

    return detect
