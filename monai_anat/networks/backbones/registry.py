"""Construction of a backbone from its class name and arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from monai_anat.networks.backbones.adapters import AdaptedBackbone
from monai_anat.networks.backbones.backbone import Backbone

__all__ = ["build_backbone", "known_backbones"]


def build_backbone(name: str, kwargs: Mapping[str, Any]) -> Backbone:
    """Build a backbone of this package by the name of its class.

    Args:
        name: class name of a backbone of this package. Other classes are never built, whatever a file names.
        kwargs: keyword arguments of its constructor.

    Returns:
        The backbone, with initial weights.

    Raises:
        ValueError: if the name is not a backbone of this package.

    >>> build_backbone("ResNetBackbone", {"depth": 18}).strides
    (4, 8, 16, 32)
    """
    known = known_backbones()
    if name not in known:
        raise ValueError(
            f"it names the class {name!r}, and only backbones of monai_anat.networks are built: "
            f"{', '.join(sorted(known))}"
        )
    return known[name](**kwargs)


def known_backbones() -> dict[str, type[Backbone]]:
    """List the backbones of this package that a record may name.

    Returns:
        Class name -> class.
    """
    known: dict[str, type[Backbone]] = {}
    waiting: list[type[Backbone]] = Backbone.__subclasses__()
    while waiting:
        cls = waiting.pop()
        waiting += cls.__subclasses__()
        if cls.__module__.startswith("monai_anat.networks.") and cls is not AdaptedBackbone:
            known[cls.__name__] = cls
    return known
