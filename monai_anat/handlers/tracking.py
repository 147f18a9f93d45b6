"""Experiment tracking with MLflow beyond MONAI's defaults."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ignite.engine import Events
from monai.handlers import MLFlowHandler
from PIL import Image
from torch import Tensor

from monai_anat.engines.resumable import ResumableTrainer
from monai_anat.handlers.training_log import pictures_of_views

__all__ = ["MLflowTracker", "log_folder"]

#: MLflow takes at most so many parameters in one call, and so many characters in a value
_MAX_PARAMETERS = 100
_MAX_CHARACTERS = 500


class MLflowTracker:
    """Log the configuration, all loss terms, rates, speed, pictures and the encoder to MLflow.

    The command line's ``--tracking mlflow`` adds MONAI's ``MLFlowHandler``, which logs the loss and two parameters.
    This handler adds to the run of that handler what :class:`~monai_anat.handlers.training_log.TrainingLog` and
    :class:`~monai_anat.handlers.manifest.RunManifest` write: every line of ``metrics.jsonl``, the configuration as
    parameters and ``manifest.json`` as a file, both without local paths, and pictures of the views and of the probe.
    Without ``--tracking`` it does nothing. Attach it after ``TrainingLog``.

    Args:
        folder: folder of ``manifest.json``.
        pictures_every: epochs between pictures; 0 logs none.

    >>> MLflowTracker("out").pictures_every
    10
    """

    def __init__(self, folder: str | os.PathLike[str], *, pictures_every: int = 10) -> None:
        self.folder = Path(str(folder))
        self.pictures_every = pictures_every
        self._handler: MLFlowHandler | None = None
        self._run_id: str | None = None
        self._logged_step = 0

    def attach(self, engine: ResumableTrainer) -> None:
        """Register with the trainer; only the first process logs."""
        if engine.rank == 0:
            engine.add_event_handler(Events.STARTED, self._find)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._log_line)
            engine.add_event_handler(Events.EPOCH_COMPLETED, self._log_epoch)

    def log_folder(self, folder: str | os.PathLike[str]) -> None:
        """Log the files of a folder, such as the trained encoder, after the run.

        Args:
            folder: folder of the files. Nothing happens if tracking is off.
        """
        if self._handler is None or self._run_id is None:
            return
        for path in sorted(Path(folder).iterdir()):
            if path.is_file() and not path.name.startswith("."):
                self._handler.client.log_artifact(self._run_id, str(path))

    def _find(self, engine: ResumableTrainer) -> None:
        """Find MONAI's handler, which was attached after this one."""
        found = (getattr(entry[0], "__self__", None) for entry in engine._event_handlers[Events.COMPLETED])
        self._handler = next((handler for handler in found if isinstance(handler, MLFlowHandler)), None)
        self._logged_step = engine.state.iteration

    def _begin(self, handler: MLFlowHandler) -> None:
        """Log the configuration, once MONAI's handler has begun its run."""
        run: Any = handler.cur_run
        self._run_id = run.info.run_id
        manifest = self.folder / "manifest.json"
        if not manifest.exists():
            return
        parameters = dict(_parameters(manifest))
        handler._delete_exist_param_in_dict(parameters)  # of an earlier start of the run, which may not change
        names = list(parameters)
        for first in range(0, len(names), _MAX_PARAMETERS):
            handler._log_params({name: parameters[name] for name in names[first : first + _MAX_PARAMETERS]})
        handler.client.log_artifact(self._run_id, str(manifest))

    def _log_line(self, engine: ResumableTrainer) -> None:
        if self._handler is None:
            return
        if self._run_id is None:
            self._begin(self._handler)
        line: Mapping[str, Any] = getattr(engine.state, "log_line", {})
        if line.get("step", 0) > self._logged_step:
            self._log_metrics(self._handler, line)

    def _log_metrics(self, handler: MLFlowHandler, line: Mapping[str, Any]) -> None:
        self._logged_step = line["step"]
        values = {name: float(value) for name, value in line.items() if name not in ("step", "epoch", "partial")}
        handler._log_metrics(values, step=line["step"])

    def _log_epoch(self, engine: ResumableTrainer) -> None:
        if self._handler is None or self._run_id is None:
            return
        line: Mapping[str, Any] = getattr(engine.state, "log_line", {})
        if line.get("step") == engine.state.iteration:
            self._log_metrics(self._handler, line)
        pictures = dict(getattr(engine.state, "pictures", {}))
        if self.pictures_every and engine.state.epoch % self.pictures_every == 0:
            views = pictures_of_views(engine.state.batch, count=1)
            pictures |= {name: batch[0] for name, batch in views.items()}
        with tempfile.TemporaryDirectory() as folder:
            for name, picture in pictures.items():
                path = Path(folder) / f"{name}_epoch_{engine.state.epoch}.png"
                _to_image(picture).save(path)
                self._handler.client.log_artifact(self._run_id, str(path))


def log_folder(engine: ResumableTrainer, folder: str | os.PathLike[str]) -> None:
    """Log the files of a folder by the ``MLflowTracker`` of a trainer; see :meth:`MLflowTracker.log_folder`.

    Args:
        engine: trainer after its run. Nothing happens if it has no ``MLflowTracker``.
        folder: folder of the files, such as the trained encoder.
    """
    for entry in engine._event_handlers[Events.STARTED]:
        tracker = getattr(entry[0], "__self__", None)
        if isinstance(tracker, MLflowTracker):
            tracker.log_folder(folder)


def _parameters(manifest: Path) -> Iterator[tuple[str, str]]:
    """Yield the settings of the last start: scalars of the configuration, fingerprint of the data, versions."""
    start = json.loads(manifest.read_text())["starts"][-1]
    yield "data_sha256", start["data"]["sha256"]
    yield "data_items", str(start["data"]["items"])
    for name in ("method", "batch_size", "processes", "precision", "commit"):
        yield name, str(start[name])
    for name, value in start["config"].items():
        text = value if isinstance(value, str) else json.dumps(value)
        if name not in ("initialize", "run", "finalize", "train", "validate", "imports", "method", "batch_size"):
            yield name.replace("#", "."), text[:_MAX_CHARACTERS]


def _to_image(picture: Tensor | np.ndarray) -> Image.Image:
    """Bring (C, H, W), in [0, 1] or in bytes, to an image."""
    array = np.asarray(picture)
    if array.dtype != np.uint8:
        array = (array.clip(0, 1) * 255).round().astype(np.uint8)
    array = array[0] if array.shape[0] == 1 else np.moveaxis(array, 0, -1)
    return Image.fromarray(array)
