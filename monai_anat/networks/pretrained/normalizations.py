"""Statistics of the images that published weights were trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.networks.backbones.stems import Normalization

__all__ = [
    "HALF",
    "IMAGENET",
    "NAMED",
    "RADIOGRAPH",
    "UNCHANGED",
    "as_normalization",
    "read_normalization_beside",
]

RADIOGRAPH = Normalization((CHEST_MEAN,), (CHEST_STD,))
IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = Normalization((0.5,), (0.5,))
UNCHANGED = Normalization((0.0,), (1.0,))
#: normalizations that can be given by name
NAMED = {"imagenet": IMAGENET, "half": HALF, "radiograph": RADIOGRAPH, "unchanged": UNCHANGED}

#: configuration files of timm and Hugging Face that may stand beside weights, and their names of mean and deviation
_CONFIGURATIONS = (
    ("preprocessor_config.json", "image_mean", "image_std"),
    ("config.json", "mean", "std"),
)
#: names of weight files that such a configuration describes
_WEIGHT_NAMES = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pt", "model.pt", "model.pth")


def as_normalization(value: Normalization | str | Sequence[float] | None) -> Normalization | None:
    """Convert an argument to a normalization.

    Args:
        value: a :class:`Normalization`; ``"imagenet"``, ``"half"`` (mean and deviation 0.5), ``"radiograph"`` or
            ``"unchanged"`` (images in [0, 1]); ``"MEAN,STD"`` or the pair (mean, std); None for the default.

    Returns:
        The normalization, or None.

    Raises:
        ValueError: if a name is unknown, or the numbers are no mean and positive deviation.

    >>> as_normalization("half") == as_normalization("0.5,0.5") == as_normalization((0.5, 0.5))
    True
    """
    if value is None or isinstance(value, Normalization):
        return value
    if isinstance(value, str) and value in NAMED:
        return NAMED[value]
    try:
        numbers = [float(number) for number in (value.split(",") if isinstance(value, str) else value)]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) not in (2, 6) or not _is_valid(numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
        raise ValueError(
            f"normalization must be one of {', '.join(NAMED)} or MEAN,STD of images in [0, 1] (one number each, or "
            f"three means and then three deviations), got {value!r}"
        )
    half = len(numbers) // 2
    return Normalization(tuple(numbers[:half]), tuple(numbers[half:]))


def read_normalization_beside(file: Path) -> Normalization | None:
    """Read the normalization from a configuration file of timm or Hugging Face in the folder of the weights.

    Args:
        file: the file of weights. Only the usual names of these libraries, such as ``model.safetensors``, are
            considered, because other files in the folder may be of other networks.

    Returns:
        The normalization, or None if there is no configuration with valid statistics.
    """
    if file.name not in _WEIGHT_NAMES:
        return None
    for name, mean_name, std_name in _CONFIGURATIONS:
        try:
            content = json.loads((file.parent / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        content = content if isinstance(content, dict) else {}
        nested = content.get("pretrained_cfg")
        for settings in (content, nested if isinstance(nested, dict) else {}):
            found = _read(settings, mean_name, std_name)
            if found is not None:
                return found
    return None


def _read(settings: dict[str, Any], mean_name: str, std_name: str) -> Normalization | None:
    mean, std = settings.get(mean_name), settings.get(std_name)
    if not (isinstance(mean, list) and isinstance(std, list)):
        return None
    valid = all(isinstance(number, int | float) for number in [*mean, *std]) and _is_valid(mean, std)
    return Normalization(tuple(map(float, mean)), tuple(map(float, std))) if valid else None


def _is_valid(mean: Sequence[float], std: Sequence[float]) -> bool:
    finite = all(math.isfinite(number) for number in [*mean, *std])
    return finite and len(mean) == len(std) and len(mean) in (1, 3) and min(std) > 0
