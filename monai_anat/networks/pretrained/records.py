"""Encoders on disk: weights, and beside them the record from which the network is built again."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.registry import build_backbone, known_backbones
from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead
from monai_anat.networks.pretrained.checkpoints import read_checkpoint

__all__ = [
    "EncoderRecord",
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
#: heads that methods keep beside the encoder, as ``<name>.pt``
HEADS: dict[str, type[CompositionHead] | type[DecompositionHead]] = {
    "composition_head": CompositionHead,
    "decomposition_head": DecompositionHead,
}


@dataclass(frozen=True)
class EncoderRecord:
    """What a user would otherwise have to guess about a file of weights.

    Attributes:
        backbone: class name, one of this package's backbones.
        kwargs: the keyword arguments that build it, the epsilon of its norms among them.
        image_size: height, width[, depth] in pixels of the images it was trained on.
        mean: what was subtracted from images in [0, 1] ...
        std: ... and what they were then divided by.
        provenance: where the weights come from: method, data, commit, source file and its hash.
    """

    backbone: str
    kwargs: dict[str, Any]
    image_size: tuple[int, ...]
    mean: float
    std: float
    provenance: dict[str, Any] = field(default_factory=dict)


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

    Each file is written under a temporary name, flushed and renamed: a stopped run leaves the old file or the new one.

    Args:
        backbone: a backbone of this package; a wrapper of torch.compile or of data-parallel training is taken off.
        folder: where to write; made when absent.
        image_size: pixels per axis of the training images; one number for all axes.
        mean: mean of the normalization of images in [0, 1].
        std: standard deviation of that normalization.
        provenance: JSON values that say where the weights come from.

    Returns:
        The folder.

    Raises:
        TypeError: when the network is no backbone of this package, or the provenance is not JSON.
        ValueError: when ``image_size`` does not fit the backbone's dimensions, or mean and std are not one number each.

    Example:
        >>> import tempfile
        >>> from monai_anat.networks import SwinBackbone
        >>> backbone = SwinBackbone(embed_dim=8, depths=(1, 1), num_heads=(1, 2))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = save_encoder(backbone, folder, image_size=56, mean=0.5, std=0.25)
        ...     load_encoder(folder).strides, read_encoder_record(folder).image_size
        ((4, 8), (56, 56))
    """
    network = _unwrap(backbone)
    if not isinstance(network, Backbone) or type(network).__name__ not in known_backbones():
        raise TypeError(
            f"backbone must be a backbone of monai_anat.networks, got {type(network).__name__}; a wrapped MONAI "
            "network has no record to be rebuilt from: save its state_dict() and build it in your own code"
        )
    size = [image_size] * network.spatial_dims if isinstance(image_size, int) else list(image_size)
    if len(size) != network.spatial_dims:
        raise ValueError(f"image_size must have {network.spatial_dims} entries, got image_size={image_size}")
    try:
        normal = float(mean), float(std)
    except TypeError:
        raise ValueError(
            f"mean and std must be one number each, for all channels, got mean={mean} and std={std}; a network that "
            "was trained with others is measured as FrozenEncoder(backbone, mean=[...], std=[...])"
        ) from None
    record = EncoderRecord(type(network).__name__, network.config, tuple(size), *normal, dict(provenance or {}))
    content = {"format": FORMAT, "version": FORMAT_VERSION, **asdict(record)}
    try:
        text = json.dumps(content, indent=2, sort_keys=False) + "\n"
    except TypeError as error:
        raise TypeError(f"provenance must hold JSON values only: {error}") from error
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    _write(target / PICKLED_NAME, lambda path: torch.save(state, path))
    _write(target / SAFE_NAME, lambda path: safetensors.torch.save_file(state, path))
    _write(target / RECORD_NAME, lambda path: path.write_text(text, encoding="utf-8"))
    return target


def save_heads(exported: Mapping[str, nn.Module], folder: str | os.PathLike[str]) -> Path:
    """Write what a method keeps beside its encoder, each network as ``<name>.pt``.

    Args:
        exported: what ``method.export_networks()`` returns; its ``encoder`` is left to :func:`save_encoder`.
        folder: the encoder's.

    Returns:
        The folder.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    for name, network in exported.items():
        if name != "encoder":
            state = {key: tensor.detach().cpu().contiguous() for key, tensor in _unwrap(network).state_dict().items()}
            _write(target / f"{name}.pt", partial(torch.save, state))
    return target


def load_heads(folder: str | os.PathLike[str]) -> dict[str, CompositionHead | DecompositionHead]:
    """The heads between parts and wholes that stand beside an encoder, by name; empty where the method keeps none.

    Args:
        folder: the encoder's.

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
    """The record beside weights.

    Args:
        path: the folder that :func:`save_encoder` wrote, or one of the files in it.

    Raises:
        FileNotFoundError: when there is no record there.
        ValueError: when the file is not a record.
    """
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
        content = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not JSON ({error}); write it again by save_encoder") from error
    return parse_encoder_record(content, str(file))


def parse_encoder_record(content: object, source: str) -> EncoderRecord:
    """Build a record from the content of ``encoder.json``.

    Args:
        content: the parsed JSON.
        source: where it comes from, for error messages.

    Raises:
        ValueError: if the content is not a record.
    """
    if not isinstance(content, Mapping) or content.get("format") != FORMAT:
        raise ValueError(
            f"{source} is no encoder record (its 'format' is not {FORMAT!r}); write it again by save_encoder"
        )
    if content.get("version") != FORMAT_VERSION:
        raise ValueError(
            f"{source} has version {content.get('version')!r}, this monai_anat reads version {FORMAT_VERSION}; "
            "install the monai_anat that wrote it"
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
        raise ValueError(f"{source} lacks or garbles an entry ({error!r}); write it again by save_encoder") from error


def load_encoder(path: str | os.PathLike[str]) -> Backbone:
    """Build the encoder from the record beside its weights, and load them strictly.

    Args:
        path: the folder that :func:`save_encoder` wrote, or one of its files of weights.

    Returns:
        The encoder on the CPU, in evaluation mode. Its input size and normalization are in
        :func:`read_encoder_record`.

    Raises:
        FileNotFoundError: when weights or record are missing.
        ValueError: when the record names a class that is no backbone of this package, or does not fit the weights.
    """
    record = read_encoder_record(path)
    try:
        backbone = build_backbone(record.backbone, record.kwargs)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the record of {path} does not build a {record.backbone}: {error}") from error
    file = _weights_file(Path(path))
    state = read_checkpoint(file)
    _check_fits(backbone.state_dict(), state, file)
    backbone.load_state_dict(state, strict=True)
    return backbone.eval()


def _weights_file(path: Path) -> Path:
    if path.is_file() and path.name != RECORD_NAME:
        return path
    folder = path if path.is_dir() else path.parent
    for name in (SAFE_NAME, PICKLED_NAME):
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(
        f"{folder} holds a record but neither {SAFE_NAME} nor {PICKLED_NAME}; copy the weights there"
    )


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
    """The network inside the wrappers of torch.compile and of data-parallel training."""
    for name in ("_orig_mod", "module"):
        inner = network.__dict__.get("_modules", {}).get(name)
        if inner is not None and not isinstance(network, Backbone):
            return _unwrap(inner)
    return network


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
