"""Checkpoints that a killed run goes on from, bit for bit."""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from ..engines import SSLTrainer

__all__ = ["Checkpointer", "save_atomically"]

logger = logging.getLogger(__name__)

_FORMAT = 1


def save_atomically(state: Any, path: Path) -> None:
    """Write with ``torch.save`` to a temporary name, flush to disk, rename: a reader sees a whole file or none.

    Raises:
        OSError: if the disk does not take it; the temporary file is removed, an older ``path`` stays.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        free = shutil.disk_usage(path.parent).free / 2**20
        raise OSError(f"could not write {path} ({free:.0f} MiB free there): {error}") from error


class Checkpointer:
    """Writes the whole training state now and then, and puts a trainer back there.

    Attach it after all other handlers (in a bundle: in ``initialize``), so that it sees the state that they leave,
    and call ``resume`` before ``run``.

    Args:
        folder: where the files ``checkpoint_00000123.pt`` go, named by the step.
        every_epochs: epochs between checkpoints.
        every_steps: optimiser steps between checkpoints, besides those at epochs.
        keep_last: how many to keep.

    >>> import tempfile
    >>> Checkpointer(tempfile.mkdtemp()).files()
    []
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every_epochs: int = 1,
        every_steps: int | None = None,
        keep_last: int = 2,
    ) -> None:
        if keep_last < 1:
            raise ValueError(f"keep_last must be at least 1, got {keep_last}")
        self.folder = Path(folder)
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.keep_last = keep_last

    def files(self) -> list[Path]:
        """The checkpoints that are there, oldest first."""
        return sorted(self.folder.glob("checkpoint_*.pt"))

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer; only the first process writes."""
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._say_how_to_go_on)
        if engine.rank > 0:
            return
        if self.every_steps is not None:
            engine.add_event_handler(Events.ITERATION_COMPLETED(every=self.every_steps), self.save)
        engine.add_event_handler(Events.EPOCH_COMPLETED(every=self.every_epochs), self.save)
        engine.add_event_handler(Events.COMPLETED, self.save)

    def save(self, engine: SSLTrainer) -> None:
        """Write a checkpoint of this step, unless it is there, and remove the oldest ones."""
        path = self.folder / f"checkpoint_{engine.state.iteration:08d}.pt"
        if path.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        save_atomically({"format": _FORMAT, **engine.training_state()}, path)
        for old in self.files()[: -self.keep_last]:
            old.unlink(missing_ok=True)

    def resume(self, engine: SSLTrainer, source: str | os.PathLike[str] | None = "auto") -> None:
        """Put the trainer where a checkpoint was written.

        Args:
            engine: the trainer, before ``run``.
            source: "auto" takes the newest checkpoint of the folder that can be read, or starts from the beginning;
                a path takes that file; None starts from the beginning.

        Raises:
            FileNotFoundError: if the path is not there.
            ValueError: if the checkpoint does not fit the method or the run, cannot be read, or ``source`` is None and
                the folder holds another run.
        """
        if source is None:
            if self.files():
                raise ValueError(
                    f"{self.folder} holds checkpoints of an earlier run; resume='auto' goes on from them, "
                    "or name another folder for a new run"
                )
            return
        if source != "auto":
            self._load(engine, Path(source))
            return
        for path in reversed(self.files()):
            try:
                self._load(engine, path)
                return
            except _Damaged as error:
                logger.warning(f"{error}; trying the one before it")
                path.rename(path.with_suffix(".damaged"))

    def _load(self, engine: SSLTrainer, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"checkpoint {path} is not there; resume='auto' takes the newest of {self.folder}")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError, OSError) as error:
            raise _Damaged(f"checkpoint {path} cannot be read ({type(error).__name__})") from error
        if not isinstance(state, dict) or state.get("format") != _FORMAT:
            raise ValueError(
                f"{path} is not a training checkpoint of this version; an encoder goes to finetune_model_path"
            )
        try:
            engine.load_training_state(state)
        except (RuntimeError, KeyError) as error:
            first = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()
            raise ValueError(
                f"checkpoint {path} is of another method or network: {first}; resume with the configuration "
                "of its run, or start a new run in another folder"
            ) from error
        logger.info(f"Going on from {path} at step {state['step']}.")

    def _say_how_to_go_on(self, engine: SSLTrainer, error: BaseException) -> None:
        files = self.files()
        where = f"the last checkpoint is {files[-1]}" if files else "no checkpoint was written yet"
        logger.error(
            f"Stopped at step {engine.state.iteration} of {engine.progress.max_steps}: {where}. "
            "The same command with resume='auto' goes on from there."
        )


class _Damaged(ValueError):
    """A checkpoint that cannot be read."""
