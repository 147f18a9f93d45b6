"""Layout of a family of weight files, and selection of the backbone in a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from monai_anat.networks.backbones.stems import Normalization

__all__ = [
    "CONSTANTS",
    "NON_COMMERCIAL",
    "NO_LICENSE",
    "OUTER",
    "OWNER",
    "Family",
    "has_marks",
    "key_names",
    "select_backbone",
    "tensors_in",
]

#: prefixes that training scripts put before the names of a backbone
PREFIXES = ("module.", "backbone.", "swin_model.", "vit_model.", "encoder.", "encoder_q.")
#: terms of the owners of published weights, by the license files found in their repositories in November 2026
NON_COMMERCIAL = "academic and other non-commercial research only (license of the authors' repository, November 2026)"
NO_LICENSE = "none given: the authors' repository has no license (November 2026), so ask them"
OWNER = "those of the file's owner"
#: patterns of buffers that every network computes itself
CONSTANTS = (r"(.*\.)?attn_mask", r"(.*\.)?relative_position_index")
#: keys under which training scripts store a state dict; "" for a file without nesting
OUTER = ("model", "state_dict", "model_state_dict", "")


@dataclass(frozen=True)
class Family:
    """Layout of the files of one origin.

    Attributes:
        name: name of the family, for ``load_backbone(family=...)``.
        origin: who writes such files, for messages and records.
        marks: patterns that tell the family from all others. Each must match the beginning of a key of the file; a
            nested key reads ``outer/inner``. Names that unrelated projects use, such as ``encoder.``, are no marks.
        branches: the networks in a file, the default first: name -> outer keys under which its tensors may be.
        markers: prefixes of the backbone's keys by branch. If one occurs, keys without it are not the backbone's.
        anchor: for general layouts, a key that every such backbone has. What stands before it in the file is the prefix
            of the backbone, and keys without the prefix are not the backbone's.
        drop: patterns of keys, without prefixes, that are not part of the backbone.
        convert: tensors of the backbone under the file's names -> under the backbone's own names.
        by_position: True if names carry no information, and tensors follow the order of the backbone's.
        normalization: statistics of the training images; None if files of the family do not imply them.
        assumed: True if ``normalization`` is only the usual one, so that using it is worth a warning.
        norm_eps: epsilon of the norms by class of backbone, if the family has one.
        terms: license terms of the owner, for the record beside converted weights.
    """

    name: str
    origin: str
    marks: tuple[str, ...]
    branches: Mapping[str, tuple[str, ...]]
    markers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    anchor: str = ""
    drop: tuple[str, ...] = ()
    convert: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    by_position: bool = False
    normalization: Normalization | None = None
    assumed: bool = False
    norm_eps: Mapping[str, float] = field(default_factory=dict)
    terms: str = OWNER


def tensors_in(content: Mapping[str, Any]) -> dict[str, dict[str, Tensor]]:
    """Collect the dictionaries of tensors in a file.

    Args:
        content: content of the file.

    Returns:
        Outer key -> tensors, with ``""`` for the tensors at the top level. Empty dictionaries are omitted.
    """
    groups = {"": {name: value for name, value in content.items() if isinstance(value, Tensor)}}
    for outer, value in content.items():
        if isinstance(value, Mapping):
            groups[outer] = {name: inner for name, inner in value.items() if isinstance(inner, Tensor)}
    return {outer: tensors for outer, tensors in groups.items() if tensors}


def key_names(groups: Mapping[str, Mapping[str, Tensor]]) -> list[str]:
    """List all keys of a file, nested ones as ``outer/inner``.

    Args:
        groups: output of :func:`tensors_in`.
    """
    return [f"{outer}/{key}" if outer else key for outer, tensors in groups.items() for key in tensors]


def has_marks(family: Family, names: Iterable[str]) -> bool:
    """Check whether a file has all marks of a family.

    Args:
        family: layout to look for. A general layout is recognized by its anchor.
        names: keys of the file, from :func:`key_names`.
    """
    names = list(names)
    marks = family.marks or (rf"(?:[\w.]+/)?(?:.*\.)?{re.escape(family.anchor)}$",)
    return all(any(re.match(mark, name) for name in names) for mark in marks)


def select_backbone(
    family: Family, branch: str, groups: Mapping[str, Mapping[str, Tensor]]
) -> tuple[dict[str, Tensor], list[str]]:
    """Select the backbone of one branch, under the backbone's own names.

    Args:
        family: layout of the file.
        branch: which of its networks to select.
        groups: output of :func:`tensors_in`.

    Returns:
        The tensors by name, and the keys of that branch that are not part of the backbone.

    Raises:
        KeyError: if the file does not hold the branch.
        ValueError: if a file of a general layout holds several networks.
    """
    outer = _outer_key(family, branch, groups)
    tensors = groups[outer]
    markers = family.markers.get(branch, ())
    if family.anchor:
        prefix = _prefix(tensors, family.anchor)
        kept = [key for key in tensors if key.startswith(prefix)]
        names = {key: key.removeprefix(prefix) for key in kept}
    else:
        kept = [key for key in tensors if _unwrapped(key).startswith(markers)] if markers else []
        default = next(iter(family.branches))
        if not kept and branch != default and outer in family.branches[default]:
            raise KeyError(branch)  # what is there belongs to the other branch
        names = {key: _stripped(_unmarked(_unwrapped(key), markers if kept else ())) for key in kept or tensors}
    state: dict[str, Tensor] = {}
    dropped = []
    for key, name in names.items():
        if any(re.fullmatch(pattern, name) for pattern in family.drop):
            dropped.append(key)
        else:
            state[name] = tensors[key]
    dropped += [key for key in tensors if key not in names]
    return family.convert(state), dropped


def _outer_key(family: Family, branch: str, groups: Mapping[str, Mapping[str, Tensor]]) -> str:
    outer = next((name for name in family.branches[branch] if name in groups), None)
    if family.anchor:  # a general layout is wherever its anchor is
        places = [name for name, tensors in groups.items() if any(_ends(key, family.anchor) for key in tensors)]
        outer = next((name for name in (outer, *places) if name in places), None)
    if outer is None:
        raise KeyError(branch)
    return outer


def _prefix(tensors: Mapping[str, Tensor], anchor: str) -> str:
    """The common prefix of the backbone's keys."""
    found = sorted({key.removesuffix(anchor) for key in tensors if _ends(key, anchor)}, key=len)
    others = [prefix for prefix in found[1:] if not prefix.startswith(found[0]) or prefix.endswith(found[0])]
    if others:
        raise ValueError(
            f"it holds several networks, under {', '.join(repr(prefix) for prefix in found)}; save the state dict of "
            "one of them, or name the family of the file by family=... (--family)"
        )
    return found[0]


def _ends(key: str, anchor: str) -> bool:
    return key == anchor or key.endswith(f".{anchor}")


def _unmarked(key: str, markers: tuple[str, ...]) -> str:
    return key.removeprefix(next((marker for marker in markers if key.startswith(marker)), ""))


def _unwrapped(key: str) -> str:
    while key.startswith("module."):
        key = key.removeprefix("module.")
    return key


def _stripped(key: str) -> str:
    while key.startswith(PREFIXES):
        key = key.removeprefix(next(prefix for prefix in PREFIXES if key.startswith(prefix)))
    return key
