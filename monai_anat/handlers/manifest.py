"""Manifest of a run: configuration, versions, commit and a fingerprint of its data."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ignite.engine import Events

from monai_anat.engines.trainer import SSLTrainer
from monai_anat.files import write_text_atomically
from monai_anat.handlers.anonymous import without_paths
from monai_anat.handlers.bundle_command import command_line_config

__all__ = ["RunManifest", "data_fingerprint"]

logger = logging.getLogger(__name__)

#: entries of a start in which a resumed run should not differ
_SETTINGS = ("method", "config", "data", "batch_size", "precision")
#: arguments of a bundle that change nothing in the result
_FREE = ("resume", "num_workers")
_PACKAGES = ("monai_anat", "monai", "torch", "pytorch-ignite", "numpy", "nibabel", "pydicom", "pillow", "scikit-image")


def data_fingerprint(data: Sequence[Mapping[str, Any]]) -> str:
    """Compute a fingerprint of a datalist from file names and sizes, or other values; no name can be read from it.

    Args:
        data: the datalist.

    Returns:
        64 hexadecimal digits of a SHA-256 checksum.

    >>> data_fingerprint([{"image": "a.png"}]) == data_fingerprint([{"image": "a.png"}])
    True
    """
    digest = hashlib.sha256()
    for item in data:
        for key in sorted(item):
            value = item[key]
            path = Path(value) if isinstance(value, str | os.PathLike) else None
            if path is not None and path.is_file():
                value = f"{path.name}:{path.stat().st_size}"
            digest.update(f"{key}={value};".encode())
    return digest.hexdigest()


class RunManifest:
    """Write ``manifest.json`` when training starts: everything that is needed to repeat the run.

    Paths are replaced, since folder and file names may be names of persons; a fingerprint identifies the data. A
    resumed run adds an entry, and a warning lists the settings in which it differs.

    Args:
        folder: folder of the manifest.
        data: the datalist, for its length and fingerprint.
        config: the configuration; the default is the one of the running bundle command.

    >>> RunManifest("out").folder.name
    'out'
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        data: Sequence[Mapping[str, Any]] = (),
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self.folder = Path(str(folder))
        self.data = data
        self.config = config

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer; only the first process writes."""
        if engine.rank == 0:
            engine.add_output_folder(self.folder)
            engine.add_event_handler(Events.STARTED, self)

    def __call__(self, engine: SSLTrainer) -> None:
        """Write the manifest, with one entry per start."""
        config = command_line_config(sys.argv[1:]) if self.config is None else self.config
        start = {
            "step": engine.state.iteration,
            "method": type(engine.method).__name__,
            "config": without_paths(config),
            "data": {"items": len(self.data), "sha256": data_fingerprint(self.data)},
            "batch_size": engine.batch_size,
            "processes": engine.world_size,
            "device": engine.device.type,
            "precision": str(engine.dtype).removeprefix("torch.") if engine.dtype else "float32",
            "python": platform.python_version(),
            "versions": {name: _version(name) for name in _PACKAGES},
            "commit": _commit(),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "manifest.json"
        starts = _earlier_starts(path)
        if starts and engine.state.iteration:
            _warn_of_differences(starts[-1], json.loads(json.dumps(start, default=str)))
        write_text_atomically(path, json.dumps({"starts": [*starts, start]}, indent=2, default=str) + "\n")


def _earlier_starts(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    try:
        starts: list[dict[str, Any]] = json.loads(path.read_text())["starts"]
    except (ValueError, KeyError, TypeError) as error:
        logger.warning(f"{path} cannot be read ({type(error).__name__}) and is replaced.")
        return []
    return starts


def _warn_of_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Warn if a resumed run has other settings or data than before."""
    old, new = (dict(_leaves({key: start.get(key) for key in _SETTINGS})) for start in (before, now))
    changed = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    if changed:
        listed = "; ".join(f"{key.removeprefix('config#')}: {old.get(key)} -> {new.get(key)}" for key in changed[:8])
        logger.warning(
            f"This run resumes with other settings or data than before: {listed}"
            f"{f' and {len(changed) - 8} more' if len(changed) > 8 else ''}. Values that the optimizers hold (weight "
            "decay, betas, a rate without schedule) stay those of the checkpoint."
        )


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values inside dicts and lists by id, ``train#trainer#seed``."""
    if isinstance(value, Mapping | list):
        for name, part in value.items() if isinstance(value, Mapping) else enumerate(value):
            if key != "config" or name not in _FREE:
                yield from _leaves(part, f"{key}#{name}" if key else str(name))
    else:
        yield key, value


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the commit of the source tree; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    result = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
