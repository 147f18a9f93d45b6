"""Loading weights that others trained into a backbone, with a report of what became of every key."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.gates import GatedBackbone
from monai_anat.networks.backbones.stems import Normalization, convert_stem
from monai_anat.networks.pretrained.checkpoints import file_sha256, read_checkpoint
from monai_anat.networks.pretrained.key_maps import (
    FAMILIES,
    Family,
    describe_architecture,
    select_backbone,
    tensors_in,
)
from monai_anat.networks.pretrained.renames import by_shape, in_order

__all__ = ["LoadReport", "initialize_from", "load_backbone"]

logger = logging.getLogger(__name__)

GATES_LEFT = "the gates were left away, so features are not those of pre-training; GatedBackbone keeps them"
GATES_ANEW = "the file has no gates; those of the backbone stay as they were drawn"
#: how often a BatchNorm was updated: old files do not have it, and it changes no feature
COUNTER = "num_batches_tracked"
#: only Swin Transformer V2 has these parameters
SWIN_V2 = re.compile(r"(^|\.)(logit_scale|cpb_mlp\..*|rpb_mlp\..*)$")


@dataclass(frozen=True)
class LoadReport:
    """What became of a file's keys.

    Attributes:
        source: the file.
        sha256: its hash.
        family: the family as which it was read.
        branch: which of its networks was taken, student or teacher.
        loaded: names in the backbone that got their value from the file.
        dropped: keys of the file that are no part of a backbone.
        missing: names in the backbone that the file has no fitting value for; empty when ``strict``.
        norm_eps: epsilon of the norms that the weights were trained with, None where the family does not say.
        notes: what else was done or should be known, one sentence each.
    """

    source: str
    sha256: str
    family: str
    branch: str
    loaded: tuple[str, ...]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]
    notes: tuple[str, ...]
    norm_eps: float | None = None

    def __str__(self) -> str:
        lines = [
            f"{self.source}: read as {self.family} ({self.branch}); {len(self.loaded)} tensors loaded, "
            f"{len(self.dropped)} dropped, {len(self.missing)} missing",
            *self.notes,
        ]
        return "\n".join(lines)


def load_backbone(
    backbone: Backbone,
    path: str | os.PathLike[str],
    family: str = "auto",
    strict: bool = True,
    *,
    branch: str | None = None,
    mean: float = CHEST_MEAN,
    std: float = CHEST_STD,
    normalization: Normalization | None = None,
) -> LoadReport:
    """Load weights of any known family into a backbone.

    The backbone is found in the file, prefixes are taken off, heads and constants dropped, every tensor cast to the
    backbone's type, and the first layer converted to the backbone's number of channels (see
    :func:`monai_anat.networks.stems.convert_stem` for where that is exact). The file is never unpickled freely. A
    backbone with gates keeps its own where the file is of a network without.

    Args:
        backbone: where to; it must have the architecture of the file.
        path: a torch or safetensors file.
        family: ``"auto"``, or one of ``monai_anat`` (checkpoints and encoders of this package); of the anatomy methods
            ``popar``, ``peac``, ``lamps``, ``ace``, ``adam``, ``adam_v2``, ``mlvicx``, ``dira``; of networks trained on
            photographs ``swin`` (official or timm's), ``timm_vit``, ``convnext`` (official), ``timm_convnext``,
            ``huggingface_swin``, ``huggingface_vit``, ``huggingface_convnext``, ``torchvision_resnet``.
        strict: raise when a tensor of the backbone gets no value or one of the file finds no place. Without it
            everything that fits is loaded and the rest reported.
        branch: ``"student"`` or ``"teacher"`` where a file holds both; None takes the one that its authors use, the
            teacher for Adam-v2, else the student.
        mean: mean of the normalization of the images that the backbone will see, in [0, 1] ...
        std: ... and its standard deviation; they matter when a three-channel file is loaded for gray images.
        normalization: of the images that the file was trained on, where it is not the family's usual one.

    Returns:
        Loaded, dropped and missing keys; the same goes to the log.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file is damaged, refused, of no known family or another architecture; the backbone is
            then unchanged.

    Example:
        >>> import tempfile
        >>> from monai_anat.networks import SwinBackbone
        >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2))
        >>> with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        ...     tensors = {f"module.swin_model.{name}": value for name, value in backbone.state_dict().items()}
        ...     torch.save({"model": tensors}, file.name)
        ...     report = load_backbone(backbone, file.name)
        >>> report.family, len(report.loaded), report.missing
        ('popar', 35, ())
    """
    if family != "auto" and family not in FAMILIES:
        raise ValueError(f"family must be auto or one of {', '.join(FAMILIES)}, got family={family!r}")
    file = Path(path)
    groups = tensors_in(read_checkpoint(file))
    family = _detect(groups, backbone.state_dict(), file) if family == "auto" else family
    layout = FAMILIES[family]
    branch = branch or next(iter(layout.branches))
    # the encoder's part of a backbone with gates has the names of a plain one, whoever wrote the file
    gated = isinstance(backbone, GatedBackbone)
    names = {key.removeprefix("backbone.") if gated else key: key for key in backbone.state_dict()}
    notes: list[str] = []
    state, dropped = _select(layout, family, branch, groups, names, file)
    own = _as_counted({name: backbone.state_dict()[key] for name, key in names.items()}, state)
    if layout.by_position:
        state, gates = _place(state, own, family, file)
        dropped += gates
        notes += [GATES_LEFT] if gates else []
    _refuse_swin_v2(state, file)
    if gated and not layout.by_position and not any(key.startswith("gates.") for key in state):
        own = {key: value for key, value in own.items() if not key.startswith("gates.")}
        notes.append(GATES_ANEW)
    state, stem_notes = _convert(state, own, normalization or layout.normalization, Normalization((mean,), (std,)))
    notes += stem_notes
    trunk = backbone.backbone if isinstance(backbone, GatedBackbone) else backbone
    norm_eps = layout.norm_eps.get(type(trunk).__name__)
    notes += _eps_note(trunk, norm_eps, family)
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    missing = tuple(key for key in own if key not in fitting)
    unplaced = tuple(key for key in state if key not in own)
    if missing or unplaced:
        problem = _explain(own, state, family, file)
        if strict or not fitting:
            raise ValueError(problem)
        notes.append(problem)
    with torch.no_grad():
        backbone.load_state_dict({names[key]: value for key, value in fitting.items()}, strict=False)
    report = LoadReport(
        source=str(file),
        sha256=file_sha256(file),
        family=family,
        branch=branch,
        loaded=tuple(names[key] for key in own if key in fitting),
        dropped=(*dropped, *unplaced),
        missing=tuple(names[key] for key in missing),
        notes=tuple(notes),
        norm_eps=norm_eps,
    )
    logger.info("%s", report)
    return report


def initialize_from(
    backbone: Backbone, path: str | os.PathLike[str] | None, *, mean: float = CHEST_MEAN, std: float = CHEST_STD
) -> Backbone:
    """A backbone with the weights of a file in it, or as it is where none is named: one line of a bundle.

    Args:
        backbone: changed in place.
        path: what :func:`load_backbone` takes, such as ImageNet weights; None loads nothing.
        mean: of the normalization of the images that the backbone will see, in [0, 1].
        std: of it.

    Returns:
        The backbone.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: when the file does not fit, see :func:`load_backbone`.

    Example:
        >>> from monai_anat.networks import ResNetBackbone
        >>> backbone = ResNetBackbone(depth=18)
        >>> initialize_from(backbone, None) is backbone
        True
    """
    if path is not None:
        load_backbone(backbone, path, mean=mean, std=std)
    return backbone


def _detect(groups: Mapping[str, Mapping[str, Tensor]], own: Mapping[str, Tensor], file: Path) -> str:
    flat = groups.get("", {})
    if flat.keys() == own.keys() and all(flat[key].shape == own[key].shape for key in own):
        return "monai_anat"  # nothing is left to convert, whoever wrote it
    names = [f"{outer}/{key}" if outer else key for outer, tensors in groups.items() for key in tensors]
    for family, layout in FAMILIES.items():
        pattern = re.compile(layout.signature)
        if any(pattern.match(name) for name in names):
            return family
    for tensors in groups.values():
        _refuse_swin_v2(tensors, file)
    shown = ", ".join(names[:3]) or "no tensor at all"
    raise ValueError(
        f"{file} is of no family that load_backbone knows ({', '.join(FAMILIES)}); it begins with {shown}. "
        "Name the family by family=..., or rename the keys to the backbone's own"
    )


def _select(
    layout: Family,
    family: str,
    branch: str,
    groups: Mapping[str, Mapping[str, Tensor]],
    names: Mapping[str, str],
    file: Path,
) -> tuple[dict[str, Tensor], list[str]]:
    """The file's tensors of one branch, its keys that are no part of it."""
    flat = groups.get("", {})
    if family == "monai_anat" and flat.keys() == set(names.values()):  # an encoder, not a checkpoint of training
        return {name: flat[key] for name, key in names.items()}, []
    if branch not in layout.branches:
        raise ValueError(
            f"branch must be one of {', '.join(layout.branches)} for a file of family {family} ({layout.origin}), "
            f"got branch={branch!r}"
        )
    try:
        return select_backbone(layout, branch, groups)
    except KeyError as error:
        outer = " or ".join(key or "(the top level)" for key in layout.branches[branch])
        raise ValueError(
            f"{file} was read as {family} and holds no {branch}: no tensors of it under {outer}; "
            f"it has tensors under {', '.join(key or '(the top level)' for key in groups) or 'nothing'}"
        ) from error


def _as_counted(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's own tensors; without the counters of its BatchNorms where the file has none."""
    counted = any(key.endswith(COUNTER) for key in state)
    return {key: value for key, value in own.items() if counted or not key.endswith(COUNTER)}


def _convert(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], trained: Normalization | None, target: Normalization
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors in float32 with the stem that the backbone has, and what was done to it."""
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    converted, note = convert_stem(state, own, trained or target, target)
    if note and trained:
        note += f" (trained on images with mean {trained.mean}, std {trained.std})"
    return converted, [note] if note else []


def _refuse_swin_v2(state: Mapping[str, Any], file: Path) -> None:
    found = next((key for key in state if SWIN_V2.search(key)), None)
    if found is not None:
        raise ValueError(
            f"{file} holds a Swin Transformer V2 (it has {found}), whose attention SwinBackbone does not compute; "
            "use the Swin V1 file of the same method, e.g. popar_swin_nih14_448.pth"
        )


def _place(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], family: str, file: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Tensors under the backbone's names, and the gates that it has no place for."""
    gates = {key: value for key, value in sorted(state.items()) if key.startswith("cbt")}
    own_gates = {key: value for key, value in own.items() if key.startswith("gates.")}
    encoder = {key: value for key, value in state.items() if key not in gates}
    own_encoder = {
        key: value for key, value in own.items() if key not in own_gates and not key.startswith("expansion.")
    }
    try:
        placed = in_order(encoder, own_encoder)
        if own_gates:
            placed |= by_shape(gates, own_gates)
    except ValueError as error:
        raise ValueError(
            f"{file} (read as {family}) does not fit the backbone: {error}; "
            "its authors train ResNetBackbone(depth=18), inside GatedBackbone where the gates are to be kept"
        ) from error
    return placed, [] if own_gates else list(gates)


def _eps_note(backbone: Backbone, norm_eps: float | None, name: str) -> list[str]:
    eps = backbone.config.get("norm_eps")
    if norm_eps is None or eps == norm_eps:
        return []
    note = f"{name} weights were trained with norm_eps={norm_eps}, the backbone has norm_eps={eps}"
    logger.warning("%s", note)
    return [note]


def _explain(own: Mapping[str, Tensor], state: Mapping[str, Tensor], name: str, file: Path) -> str:
    """The first key that does not fit, both shapes, and the network that would fit."""
    wrong = next((key for key in own if key not in state or state[key].shape != own[key].shape), None)
    if wrong is not None:
        got = f"has {tuple(state[wrong].shape)}" if wrong in state else "does not have it"
        reason = f"{wrong} must be {tuple(own[wrong].shape)}, the file {got}"
    else:
        reason = f"the backbone has no place for {next(key for key in state if key not in own)}"
    described = describe_architecture(state)
    way_out = f"the file fits {described}" if described else "build the architecture that the file was trained with"
    return f"{file} (read as {name}) does not fit the backbone: {reason}; {way_out}"
