"""Encoder folders: weights, and the record that builds the network again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from monai_anat.files import file_sha256, replace_file
from monai_anat.networks.backbones.adapters import AdaptedBackbone
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.registry import build_backbone, known_backbones
from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead
from monai_anat.networks.pretrained.checkpoints import read_checkpoint

__all__ = [
    "EncoderRecord",
    "check_savable",
    "load_encoder",
    "load_heads",
    "parse_encoder_record",
    "read_encoder_record",
    "save_encoder",
    "save_heads",
]

RECORD_NAME = "encoder.json"
PICKLED_NAME = "model.pt"
SAFE_NAME = "model.safetensors"
FORMAT = "monai_anat encoder"
FORMAT_VERSION = 1
#: heads that methods save beside the encoder, as ``<name>.pt``
HEADS: dict[str, type[CompositionHead] | type[DecompositionHead]] = {
    "composition_head": CompositionHead,
    "decomposition_head": DecompositionHead,
}


@dataclass(frozen=True)
class EncoderRecord:
    """What is needed to use a file of weights: architecture, input size, normalization and origin.

    Attributes:
        backbone: name of the backbone class of this package.
        kwargs: keyword arguments that build the backbone.
        image_size: height, width[, depth] of the training images in pixels.
        mean: mean by which images in [0, 1] are normalized.
        std: standard deviation by which images in [0, 1] are normalized, positive.
        provenance: origin of the weights: method, data, commit, source file and its checksum.

    Raises:
        ValueError: if mean or std is not finite, or std is not positive.
    """

    backbone: str
    kwargs: dict[str, Any]
    image_size: tuple[int, ...]
    mean: float
    std: float
    provenance: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.mean) and math.isfinite(self.std) and self.std > 0):
            raise ValueError(
                f"mean must be a finite number and std a positive one, got mean={self.mean} and std={self.std}; give "
                "those by which the training images in [0, 1] were normalized"
            )


def check_savable(network: nn.Module) -> Backbone:
    """Check that :func:`save_encoder` can save a network, before time is spent on training it.

    Args:
        network: the network, possibly wrapped by ``torch.compile`` or data-parallel training.

    Returns:
        The backbone without wrappers.

    Raises:
        TypeError: if it is no backbone of this package, or a backbone around a network of another library. The message
            names the way out.

    >>> from monai_anat.networks import ResNetBackbone
    >>> type(check_savable(ResNetBackbone(depth=18))).__name__
    'ResNetBackbone'
    """
    backbone = _unwrap(network)
    if isinstance(backbone, AdaptedBackbone):
        raise TypeError(
            f"an AdaptedBackbone around {type(backbone.network).__name__} has no record from which it could be built "
            "again: export by your own code, torch.save(backbone.network.state_dict(), ...), and wrap the network by "
            "as_backbone after loading; or use a backbone of monai_anat.networks, which save_encoder takes"
        )
    if not isinstance(backbone, Backbone) or type(backbone).__name__ not in known_backbones():
        raise TypeError(
            f"backbone must be a backbone of monai_anat.networks, got {type(backbone).__name__}, which has no record "
            "from which it could be built again: save its state_dict() and build it in your own code"
        )
    return backbone


def save_encoder(
    backbone: nn.Module,
    folder: str | os.PathLike[str],
    *,
    image_size: int | Sequence[int],
    mean: float,
    std: float,
    provenance: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``model.pt``, ``model.safetensors`` (the same weights) and ``encoder.json`` (the record).

    All three files are written completely under temporary names and then renamed: ``model.pt``, the record, and
    ``model.safetensors``. The record holds the checksums of the weights, so that at any time one file of weights
    belongs to the record. If the process is killed, :func:`load_encoder` therefore reads the old encoder or the new
    one, never a mixture. Temporary files of a killed process are removed by the next call.

    Args:
        backbone: a backbone of this package. Wrappers of ``torch.compile`` and data-parallel training are removed.
        folder: output folder, created if it does not exist.
        image_size: side of the training images in pixels, one number for all axes or one per axis.
        mean: mean by which the training images in [0, 1] were normalized.
        std: standard deviation by which they were normalized.
        provenance: origin of the weights, as JSON values.

    Returns:
        The folder.

    Raises:
        TypeError: if the network is no backbone of this package, or the provenance is not JSON.
        ValueError: if ``image_size`` does not fit the backbone's dimensions, or mean and std are not one finite number
            each, with a positive std.

    Example:
        >>> import tempfile
        >>> from monai_anat.networks import SwinBackbone
        >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save_encoder(backbone, folder, image_size=56, mean=0.5, std=0.25)
        ...     load_encoder(folder).strides, read_encoder_record(folder).image_size
        ((4, 8), (56, 56))
    """
    network = check_savable(backbone)
    size = [image_size] * network.spatial_dims if isinstance(image_size, int) else list(image_size)
    if len(size) != network.spatial_dims:
        raise ValueError(f"image_size must have {network.spatial_dims} entries, got image_size={image_size}")
    try:
        normal = float(mean), float(std)
    except TypeError:
        raise ValueError(
            f"mean and std must be one number each, for all channels, got mean={mean} and std={std}; a network that "
            "was trained with several is evaluated as FrozenEncoder(backbone, mean=[...], std=[...])"
        ) from None
    record = EncoderRecord(type(network).__name__, network.config, tuple(size), *normal, dict(provenance or {}))
    content = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(record)}
    try:
        json.dumps(content)
    except TypeError as error:
        raise TypeError(f"provenance must hold JSON values only: {error}") from error
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    for name in (SAFE_NAME, RECORD_NAME, PICKLED_NAME):
        for left in target.glob(f".{name}.*.tmp"):
            left.unlink(missing_ok=True)
    with ExitStack() as files:  # renamed in reverse order: model.pt, the record, model.safetensors
        safe_path = files.enter_context(replace_file(target / SAFE_NAME))
        record_path = files.enter_context(replace_file(target / RECORD_NAME))
        pickled_path = files.enter_context(replace_file(target / PICKLED_NAME))
        torch.save(state, pickled_path)
        safetensors.torch.save_file(state, safe_path)
        content["sha256"] = {PICKLED_NAME: file_sha256(pickled_path), SAFE_NAME: file_sha256(safe_path)}
        record_path.write_text(json.dumps(content, indent=2, sort_keys=False) + "\n", encoding="utf-8")
    return target


def save_heads(exported: Mapping[str, nn.Module], folder: str | os.PathLike[str]) -> Path:
    """Write the networks that a method exports beside its encoder, each as ``<name>.pt``.

    Args:
        exported: output of ``method.export_networks()``. The entry ``encoder`` is skipped; use :func:`save_encoder`.
        folder: folder of the encoder.

    Returns:
        The folder.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, network in exported.items():
        if name != "encoder":
            state = {key: tensor.detach().cpu().contiguous() for key, tensor in _unwrap(network).state_dict().items()}
            with replace_file(target / f"{name}.pt") as path:
                torch.save(state, path)
    return target


def load_heads(folder: str | os.PathLike[str]) -> dict[str, CompositionHead | DecompositionHead]:
    """Load the part-whole heads beside an encoder.

    Args:
        folder: folder of the encoder.

    Returns:
        Heads by name; empty if the method exported none.

    Raises:
        ValueError: if a file does not hold such a head.
    """
    files = {name: Path(folder) / f"{name}.pt" for name in HEADS}
    heads: dict[str, CompositionHead | DecompositionHead] = {}
    for name, file in files.items():
        if file.is_file():
            try:
                heads[name] = HEADS[name].of_weights(read_checkpoint(file))
            except ValueError as error:
                raise ValueError(f"{file} does not hold a {name}: {error}") from error
    return heads


def read_encoder_record(path: str | os.PathLike[str]) -> EncoderRecord:
    """Read the record beside weights.

    Args:
        path: folder that :func:`save_encoder` wrote, or one of the files in it.

    Returns:
        The record.

    Raises:
        FileNotFoundError: if there is no record.
        ValueError: if the file is not a record, or holds impossible values such as a std of 0.
    """
    content, file = _read_json(path)
    return parse_encoder_record(content, str(file))


def _read_json(path: str | os.PathLike[str]) -> tuple[object, Path]:
    """Read the record's file as JSON."""
    place = Path(path)
    if not place.exists():
        raise FileNotFoundError(f"path must be a folder or file that save_encoder wrote, got {place}: there is none")
    file = (place if place.is_dir() else place.parent) / RECORD_NAME
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing, and without that record the network cannot be built; for weights from elsewhere build "
            "a backbone and call load_backbone(backbone, path)"
        )
    try:
        return json.loads(file.read_text(encoding="utf-8")), file
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON ({error}); write it again by save_encoder") from error


def parse_encoder_record(content: object, source: str) -> EncoderRecord:
    """Build a record from the content of ``encoder.json``.

    Args:
        content: the parsed JSON.
        source: where it comes from, for error messages.

    Returns:
        The record.

    Raises:
        ValueError: if the content is not a record, or holds impossible values such as a std of 0.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise ValueError(
            f"{source} is no encoder record (its 'format' is not {FORMAT!r}); write it again by save_encoder"
        )
    if content.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{source} has version {content.get('version')!r}, this monai_anat reads version {FORMAT_VERSION}; "
            "install the version of monai_anat that wrote it"
        )
    try:
        return EncoderRecord(
            backbone=str(content["backbone"]),
            kwargs=dict(content["kwargs"]),
            image_size=tuple(int(side) for side in content["image_size"]),
            mean=float(content["mean"]),
            std=float(content["std"]),
            provenance=dict(content.get("provenance", {})),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{source} lacks an entry or holds an impossible one ({error!r}); write it again by save_encoder"
        ) from error


def load_encoder(path: str | os.PathLike[str]) -> Backbone:
    """Build an encoder from its record and load its weights; every tensor must be there.

    Args:
        path: folder that :func:`save_encoder` wrote, or one of its files of weights.

    Returns:
        The encoder on the CPU, in evaluation mode. :func:`read_encoder_record` gives its input size and normalization.

    Raises:
        FileNotFoundError: if weights or record are missing.
        ValueError: if the record names a class that is no backbone of this package, or does not fit the weights.
    """
    content, record_file = _read_json(path)
    record = parse_encoder_record(content, str(record_file))
    try:
        backbone = build_backbone(record.backbone, record.kwargs)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the record of {path} does not build a {record.backbone}: {error}") from error
    checksums = content.get("sha256", {}) if isinstance(content, dict) else {}
    file = _weights_file(Path(path), checksums)
    state = read_checkpoint(file)
    _check_fits(backbone.state_dict(), state, file)
    if not _is_recorded(file, checksums):
        raise ValueError(
            f"{file} is not the file for which the record beside it was written (its checksum differs): a bit changed, "
            "or weights and record come from different runs; copy both again, or save both again by save_encoder"
        )
    backbone.load_state_dict(state, strict=True)
    return backbone.eval()


def _weights_file(path: Path, checksums: Mapping[str, str]) -> Path:
    """Find the weights; in a folder, those that belong to the record if there are several."""
    if path.is_file() and path.name != RECORD_NAME:
        return path
    folder = path if path.is_dir() else path.parent
    files = [folder / name for name in (SAFE_NAME, PICKLED_NAME) if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(
            f"{folder} holds a record but neither {SAFE_NAME} nor {PICKLED_NAME}; copy the weights there"
        )
    return next((file for file in files if _is_recorded(file, checksums)), files[0])


def _is_recorded(file: Path, checksums: Mapping[str, str]) -> bool:
    """Check a file against the checksums of the record; records without any, and files of other names, pass."""
    return file.name not in checksums or file_sha256(file) == checksums[file.name]


def _check_fits(own: Mapping[str, Tensor], state: Mapping[str, Any], file: Path) -> None:
    for name, tensor in own.items():
        found = state.get(name)
        if not isinstance(found, Tensor) or found.shape != tensor.shape:
            got = tuple(found.shape) if isinstance(found, Tensor) else "nothing"
            raise ValueError(
                f"{file} does not fit the record beside it: {name} must be {tuple(tensor.shape)}, the file has {got}; "
                "weights and record come from different runs, save both again by save_encoder"
            )
    for name in state:
        if name not in own:
            raise ValueError(
                f"{file} does not fit the record beside it: {name} is not part of the recorded network; "
                "for a full checkpoint build a backbone and call load_backbone(backbone, path)"
            )


def _unwrap(network: nn.Module) -> nn.Module:
    """Remove the wrappers of ``torch.compile`` and data-parallel training."""
    for name in ("_orig_mod", "module"):
        inner = network.__dict__.get("_modules", {}).get(name)
        if inner is not None and not isinstance(network, Backbone):
            return _unwrap(inner)
    return network
