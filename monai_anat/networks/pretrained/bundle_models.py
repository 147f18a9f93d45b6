"""Models of fine-tuning bundles: find them beside their configuration, and replace them after training."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from monai.bundle import ConfigWorkflow
from monai.utils import ensure_tuple
from torch import nn

from monai_anat.distributed import is_main_process
from monai_anat.networks.backbones.backbone import Backbone
from monai_anat.networks.backbones.registry import build_backbone
from monai_anat.networks.pretrained.checkpoints import read_checkpoint
from monai_anat.networks.pretrained.records import (
    EncoderRecord,
    parse_encoder_record,
    read_encoder_record,
    save_encoder,
)

__all__ = ["find_encoder_record", "find_models", "publish_model", "recorded_backbone"]

logger = logging.getLogger(__name__)

_ENCODER = "encoder"
_WEIGHTS = "model.pt"
#: names under which MONAI's bundle commands hold their configuration files
_CONFIG_NAMES = ("config_file", "config_file_", "bundle_config_file")


def find_models(bundle_root: str | os.PathLike[str], task: str) -> str:
    """Find the folder ``models`` of a bundle, whatever the working directory is.

    ``monai.bundle.load``, ``create_workflow`` and the clients that read a bundle leave ``bundle_root`` at ".", which is
    then the folder of the user. The first folder whose encoder record names the task is taken: ``models`` under
    ``bundle_root``, beside the configuration that is being run, under an entry of ``sys.path``.

    Args:
        bundle_root: the bundle's argument. Any value but "." is taken as it is.
        task: ``provenance["task"]`` of the encoder record.

    Returns:
        The folder; ``models`` under ``bundle_root`` where none is found.

    >>> find_models("my_bundle", "classification")
    'my_bundle/models'
    """
    own = Path(bundle_root) / "models"
    if str(bundle_root) != ".":
        return str(own)
    for root in (Path(bundle_root), *_running_bundles(), *map(Path, sys.path)):
        if _has_task(root / "models", task):
            return str(root / "models")
    return str(own)


def find_encoder_record(
    folder: str | os.PathLike[str], shipped: Mapping[str, Any] | None = None
) -> EncoderRecord | None:
    """Read the record beside a model, or use the one in the configuration.

    An exported TorchScript file holds the configuration, but has no folder beside it.

    Args:
        folder: folder that :func:`monai_anat.networks.save_encoder` wrote.
        shipped: content of ``encoder.json`` of the model that the bundle ships, if it ships one.

    Returns:
        The record, or None if there is neither.

    Raises:
        ValueError: if the record is damaged.
    """
    if (Path(folder) / "encoder.json").is_file():
        return read_encoder_record(folder)
    return None if shipped is None else parse_encoder_record(shipped, "the configuration's shipped_record")


def recorded_backbone(record: EncoderRecord | None, default: Backbone) -> Backbone:
    """Build the network of a record.

    Args:
        record: record of an encoder, or None.
        default: network to use if there is no record.

    Returns:
        A network without trained weights.

    >>> from monai_anat.networks import ResNetBackbone
    >>> default = ResNetBackbone(depth=18)
    >>> recorded_backbone(None, default) is default
    True
    """
    return default if record is None else build_backbone(record.backbone, record.kwargs)


def publish_model(
    network: nn.Module,
    folder: str | os.PathLike[str],
    *,
    weights: str | os.PathLike[str] | None,
    image_size: int | Sequence[int],
    mean: float,
    std: float,
    provenance: Mapping[str, Any] | None = None,
    finished: str | os.PathLike[str] | None = None,
) -> None:
    """Replace a model and the record of its encoder after training, both or neither.

    ``folder`` gets ``model.pt`` (state dict of the network) and ``encoder`` (:func:`monai_anat.networks.save_encoder`).
    Everything is written beside its place first. If a move fails, what was there is restored. Only the first process
    writes.

    Args:
        network: a network with ``backbone``, or a data-parallel wrapper around it. It takes over ``weights``.
        folder: where the model belongs.
        weights: state dict of the best epoch; None takes the network as it is.
        image_size: see ``save_encoder``.
        mean: see ``save_encoder``.
        std: see ``save_encoder``.
        provenance: see ``save_encoder``.
        finished: folder of the run's checkpoints, removed at the end: the next training starts anew.

    Raises:
        ValueError: if ``weights`` lacks tensors of the network, or holds others.
        OSError: if a file cannot be written.
    """
    if not is_main_process():
        return
    inner: nn.Module = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
    if weights is None:
        logger.warning("No validation took place, so the weights of the last epoch are saved as they are.")
    else:
        _load_strictly(inner, weights)
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    backbone: nn.Module = inner.get_submodule("backbone")
    with tempfile.TemporaryDirectory(dir=target, prefix=".new_model_") as staging:
        new = Path(staging)
        state = {name: tensor.detach().cpu().contiguous() for name, tensor in inner.state_dict().items()}
        torch.save(state, new / _WEIGHTS)
        save_encoder(backbone, new / _ENCODER, image_size=image_size, mean=mean, std=std, provenance=provenance)
        _move_all(new, target, (_ENCODER, _WEIGHTS))
    if finished is not None:
        shutil.rmtree(finished, ignore_errors=True)
    logger.info("The model and the record of its encoder are in %s.", target)


def _load_strictly(network: nn.Module, weights: str | os.PathLike[str]) -> None:
    """Load a state dict, or raise an error that names what is missing."""
    try:
        network.load_state_dict(read_checkpoint(Path(weights)), strict=True)
    except RuntimeError as error:
        raise ValueError(f"{weights} does not fit the network: {error}") from error


def _move_all(source: Path, target: Path, names: Sequence[str]) -> None:
    """Move files or folders to their places; if one fails, put the old ones back."""
    moved: list[str] = []
    old = source / "old"
    old.mkdir()
    try:
        for name in names:
            if (target / name).exists():
                (target / name).replace(old / name)
            moved.append(name)
            (source / name).replace(target / name)
    except BaseException:
        for name in moved:
            _remove(target / name)
            if (old / name).exists():
                (old / name).replace(target / name)
        raise


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _has_task(models: Path, task: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        return bool(read_encoder_record(models / _ENCODER).provenance.get("task") == task)
    return False


def _running_bundles() -> Iterator[Path]:
    """Folders of the bundles that MONAI is reading in a call above, innermost first.

    A configuration has no other way to learn where it was read from.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        values = frame.f_locals
        workflow = values.get("self")
        if isinstance(workflow, ConfigWorkflow):
            yield workflow.config_root_path.parent
        elif str(frame.f_globals.get("__name__", "")).startswith("monai.bundle"):
            for name in _CONFIG_NAMES:
                if values.get(name):
                    yield Path(ensure_tuple(values[name])[0]).parent.parent
        frame = frame.f_back
