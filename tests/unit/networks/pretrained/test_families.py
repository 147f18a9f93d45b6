"""Registry of families: order, refusal of unknown files."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from monai_anat.networks.pretrained.families import FAMILIES


def test_families_are_listed_under_their_names() -> None:
    assert all(family.name == name and family.origin and family.terms for name, family in FAMILIES.items())
    marked = [
        bool(family.marks) or name.startswith(("swin", "timm", "conv", "torch")) for name, family in FAMILIES.items()
    ]
    assert all(marked)


def test_unknown_files_are_named_with_the_way_out(detected: Callable[[list[str]], str]) -> None:
    with pytest.raises(ValueError, match=r"of no family.*begins with a\.b\.weight.*--family"):
        detected(["a.b.weight"])
