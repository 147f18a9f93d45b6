"""Loading of published weights into a backbone, with a report on every key."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from monai_anat.files import file_sha256
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.gates import GatedBackbone
from monai_anat.networks.backbones.stems import Normalization, convert_stem, needs_statistics
from monai_anat.networks.pretrained.architectures import describe_architecture
from monai_anat.networks.pretrained.checkpoints import read_checkpoint
from monai_anat.networks.pretrained.families import FAMILIES, detect_family
from monai_anat.networks.pretrained.family import Family, key_names, select_backbone, tensors_in
from monai_anat.networks.pretrained.normalizations import NAMED, as_normalization, read_normalization_beside
from monai_anat.networks.pretrained.records import check_savable
from monai_anat.networks.pretrained.renames import by_shape, in_order
from monai_anat.networks.pretrained.unsupported import check_supported

__all__ = ["LoadReport", "initialize_from", "load_backbone"]

logger = logging.getLogger(__name__)

GATES_DROPPED = "the gates were dropped, so features differ from those of pre-training; GatedBackbone keeps them"
GATES_NEW = "the file has no gates; those of the backbone keep their initial values"
#: update counter of BatchNorm, which old files do not have and which changes no feature
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class LoadReport:
    """What happened to the keys of a file.

    Attributes:
        source: the file.
        sha256: its checksum.
        family: the family as which the file was read.
        branch: which of its networks was loaded, student or teacher.
        loaded: names in the backbone that were loaded from the file.
        dropped: keys of the file that are not part of a backbone.
        missing: names in the backbone without a fitting value in the file; empty if ``strict``.
        norm_eps: epsilon of the norms that the weights were trained with; None if the family does not imply one.
        normalization: statistics of the training images, as far as they were known or given.
        notes: further remarks, one sentence each.
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
    normalization: Normalization | None = None

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
    normalization: Normalization | str | Sequence[float] | None = None,
) -> LoadReport:
    """Load weights of a known family into a backbone.

    Finds the backbone in the file, removes prefixes, drops heads and constants, casts tensors to the type of the
    backbone, and converts the first layer to the number of input channels (see
    :func:`monai_anat.networks.backbones.stems.convert_stem` for where the conversion is exact). Files are read without
    unpickling objects. A backbone with gates keeps its own gates if the file has none.

    Args:
        backbone: network to load into, of the architecture of the file.
        path: a torch or safetensors file.
        family: ``"auto"`` detects the family by marks that only its own files have. Otherwise ``monai_anat``
            (checkpoints and encoders of this package); the anatomy methods ``popar``, ``peac``, ``lamps``, ``ace``,
            ``adam``, ``adam_v2``, ``mlvicx``, ``dira``; the methods ``dino``, ``ibot``, ``mae``, ``moco``, ``moco_v3``,
            ``student_teacher``; or the general layouts ``swin`` (official or timm), ``timm_vit``, ``convnext``
            (official), ``timm_convnext``, ``huggingface_swin``, ``huggingface_vit``, ``huggingface_convnext``,
            ``torchvision_resnet``, under any prefix.
        strict: raise if a tensor of the backbone has no value in the file, or the file has a tensor too many. If False,
            load what fits and report the rest.
        branch: ``"student"`` or ``"teacher"``, for files that hold both. Defaults to the one that the authors use: the
            teacher for Adam-v2, DINO and iBOT, otherwise the student.
        mean: mean of the normalization of the images that the backbone will see, in [0, 1].
        std: standard deviation of that normalization. Both matter if a three-channel file is loaded for gray images.
        normalization: statistics of the images that the file was trained on: ``"imagenet"``, ``"half"`` (mean and
            deviation 0.5), ``"radiograph"``, ``"unchanged"``, ``"MEAN,STD"``, a pair of numbers or a
            :class:`Normalization`. By default they are read from a ``config.json`` or ``preprocessor_config.json``
            beside ``model.safetensors``, or implied by the family. A plain ViT implies none.

    Returns:
        Loaded, dropped and missing keys, which are also logged.

    Raises:
        FileNotFoundError: if the file does not exist.
        ValueError: if the file is damaged, refused, of no known family or of another architecture, or if the statistics
            of its training images are needed and unknown. The backbone is then unchanged.

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
    given, file = as_normalization(normalization), Path(path)
    groups, layout = _read(file, family, backbone.state_dict())
    family = layout.name
    branch = branch or next(iter(layout.branches))
    # the encoder of a gated backbone has the names of a plain one, whoever wrote the file
    gated = isinstance(backbone, GatedBackbone)
    names = {key.removeprefix("backbone.") if gated else key: key for key in backbone.state_dict()}
    notes: list[str] = []
    state, dropped = _select(layout, branch, groups, names, file)
    own = _as_counted({name: backbone.state_dict()[key] for name, key in names.items()}, state)
    if layout.by_position:
        state, gates = _place(state, own, family, file)
        dropped += gates
        notes += [GATES_DROPPED] if gates else []
    if gated and not layout.by_position and not any(key.startswith("gates.") for key in state):
        own = {key: value for key, value in own.items() if not key.startswith("gates.")}
        notes.append(GATES_NEW)
    trained, remarks = _trained_on(layout, given, file)
    state, stem_notes = _convert(state, own, trained, Normalization((mean,), (std,)), layout, file, remarks)
    trunk = backbone.backbone if isinstance(backbone, GatedBackbone) else backbone
    norm_eps = layout.norm_eps.get(type(trunk).__name__)
    notes += [*stem_notes, *_eps_note(trunk, norm_eps, family)]
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
        normalization=trained,
    )
    logger.info("%s", report)
    return report


def initialize_from(
    backbone: Backbone,
    path: str | os.PathLike[str] | None,
    *,
    mean: float = CHEST_MEAN,
    std: float = CHEST_STD,
    family: str = "auto",
    normalization: Normalization | str | Sequence[float] | None = None,
) -> Backbone:
    """Load weights into a backbone if a file is given, for use in a bundle's configuration.

    Bundles save the encoder after training. A network that :func:`save_encoder` cannot save is therefore refused here,
    before the first step.

    Args:
        backbone: changed in place.
        path: a file for :func:`load_backbone`, such as ImageNet weights; None loads nothing.
        mean: mean of the normalization of the images that the backbone will see, in [0, 1].
        std: standard deviation of that normalization.
        family: family of the file, see :func:`load_backbone`.
        normalization: statistics of the images that the file was trained on, see :func:`load_backbone`.

    Returns:
        The backbone. Every tensor has been loaded, otherwise an error is raised.

    Raises:
        FileNotFoundError: if the file does not exist.
        TypeError: if the backbone cannot be saved, such as a wrapped network of another library.
        ValueError: if the file does not fit, see :func:`load_backbone`.

    Example:
        >>> from monai_anat.networks import ResNetBackbone
        >>> backbone = ResNetBackbone(depth=18)
        >>> initialize_from(backbone, None) is backbone
        True
    """
    check_savable(backbone)
    if path is not None:
        load_backbone(backbone, path, family, mean=mean, std=std, normalization=normalization)
    return backbone


def _read(file: Path, family: str, own: Mapping[str, Tensor]) -> tuple[dict[str, dict[str, Tensor]], Family]:
    """Read the tensors of a file, and find its layout."""
    content = read_checkpoint(file)
    groups = tensors_in(content)
    layout = FAMILIES[detect_family(content, own, file) if family == "auto" else family]
    if layout.name != "monai_anat":
        check_supported(key_names(groups), file)
    return groups, layout


def _select(
    layout: Family,
    branch: str,
    groups: Mapping[str, Mapping[str, Tensor]],
    names: Mapping[str, str],
    file: Path,
) -> tuple[dict[str, Tensor], list[str]]:
    """Select the file's tensors of one branch, and list its keys that are not part of it."""
    flat = groups.get("", {})
    if layout.name == "monai_anat" and flat.keys() == set(names.values()):  # an encoder, not a training checkpoint
        return {name: flat[key] for name, key in names.items()}, []
    if branch not in layout.branches:
        raise ValueError(
            f"branch must be one of {', '.join(layout.branches)} for a file of family {layout.name} ({layout.origin}), "
            f"got branch={branch!r}"
        )
    try:
        return select_backbone(layout, branch, groups)
    except KeyError as error:
        outer = " or ".join(key or "(the top level)" for key in layout.branches[branch])
        raise ValueError(
            f"{file} was read as {layout.name} and holds no {branch}: no tensors of it under {outer}; "
            f"it has tensors under {', '.join(key or '(the top level)' for key in groups) or 'nothing'}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{file} was read as {layout.name}, but {error}") from error


def _as_counted(own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The backbone's own tensors, without the counters of its BatchNorms if the file has none."""
    counted = any(key.endswith(COUNTER) for key in state)
    return {key: value for key, value in own.items() if counted or not key.endswith(COUNTER)}


def _trained_on(layout: Family, given: Normalization | None, file: Path) -> tuple[Normalization | None, str]:
    """The statistics of the training images, and a remark on where they come from."""
    if given is not None:
        return given, ""
    beside = read_normalization_beside(file) if layout.name != "monai_anat" else None
    if beside is not None:
        return beside, "statistics of the training images from the configuration beside the file"
    if layout.assumed:
        return layout.normalization, (
            f"the file does not name the statistics of its training images, the usual ones of {layout.name} are "
            "assumed; otherwise give normalization=... (--normalization)"
        )
    return layout.normalization, ""


def _convert(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    trained: Normalization | None,
    target: Normalization,
    layout: Family,
    file: Path,
    remarks: str,
) -> tuple[dict[str, Tensor], list[str]]:
    """Convert tensors to float32 and the stem to that of the backbone, and describe what was done."""
    state = {key: value.float() if value.is_floating_point() else value for key, value in state.items()}
    needed = needs_statistics(state, own)
    if needed and trained is None and layout.name != "monai_anat":
        raise ValueError(
            f"{file} ({layout.origin}) has a stem for several channels, and converting it to gray images needs the "
            "mean and deviation of its training images, which the file does not name: give normalization=... "
            f"(--normalization), one of {', '.join(NAMED)} or MEAN,STD. Timm's augmented ViTs have half, DeiT, DINO "
            "and MAE have imagenet"
        )
    converted, note = convert_stem(state, own, trained or target, target)
    if note and trained:
        note += f" (trained on images with mean {trained.mean}, std {trained.std})"
    notes = [note] if note else []
    if needed and remarks:
        logger.warning("%s: %s", file, remarks)
        notes.append(remarks)
    return converted, notes


def _place(
    state: Mapping[str, Tensor], own: Mapping[str, Tensor], family: str, file: Path
) -> tuple[dict[str, Tensor], list[str]]:
    """Name tensors as the backbone does, and list the gates that it does not have."""
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
            "its authors train ResNetBackbone(depth=18); put it inside GatedBackbone to keep the gates"
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
    """Name the first key that does not fit, both shapes, and the network that would fit."""
    wrong = next((key for key in own if key not in state or state[key].shape != own[key].shape), None)
    if wrong is not None:
        got = f"has {tuple(state[wrong].shape)}" if wrong in state else "does not have it"
        reason = f"{wrong} must be {tuple(own[wrong].shape)}, the file {got}"
    else:
        reason = f"the backbone has no {next(key for key in state if key not in own)}"
    described = describe_architecture(state)
    if described is None:
        way_out = "build the architecture that the file was trained with"
    elif described == describe_architecture(own):
        extra = [key for key in state if key not in own]
        left = f", and the file has {len(extra)} tensors more, such as {extra[0]}" if extra else ""
        way_out = (
            f"the file, too, looks like {described}{left}; check image_size and heads, name the family by family=... "
            "(--family), or load what fits by strict=False"
        )
    else:
        way_out = f"the file fits {described}"
    return f"{file} (read as {name}) does not fit the backbone: {reason}; {way_out}"
