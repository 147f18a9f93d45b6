"""Checkpoints that a killed run goes on from, bit for bit."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import shutil
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import IO, Any

import torch
from ignite.engine import Events

from monai_anat.distributed import from_first_process
from monai_anat.engines.trainer import SSLTrainer

__all__ = ["Checkpointer", "drop_lines_after", "save_atomically", "write_text_atomically"]

logger = logging.getLogger(__name__)

_FORMAT = 1
#: torch meets arbitrary bytes with arbitrary exceptions
_UNREADABLE = (
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


def save_atomically(state: Any, path: Path) -> None:
    """Write with ``torch.save`` to a temporary name, flush to disk, rename: a reader sees a whole file or none.

    Raises:
        OSError: if the disk does not take it; the temporary file is removed, an older ``path`` stays.
    """
    _write_atomically(lambda file: torch.save(state, file), path)


def write_text_atomically(text: str, path: Path) -> None:
    """Write a text as :func:`save_atomically` writes a state."""
    _write_atomically(lambda file: file.write(text.encode()), path)


def drop_lines_after(step: int, path: Path) -> None:
    """Take the steps that a resumed run repeats out of a file of JSON lines, and half a line that a power cut left.

    Args:
        step: of the checkpoint; each line says its own as ``step``.
        path: nothing happens if it is not there.
    """
    if path.exists():
        lines = [line for line in path.read_text(errors="replace").splitlines() if _step_of(line) <= step]
        write_text_atomically("".join(line + "\n" for line in lines), path)


def _step_of(line: str) -> float:
    try:
        step: float = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return inf
    return step


def _write_atomically(write: Callable[[IO[bytes]], Any], path: Path) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            write(file)
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
        every_steps: optimizer steps between checkpoints, besides those at epochs.
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
        for name, value in (("every_epochs", every_epochs), ("every_steps", every_steps), ("keep_last", keep_last)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.folder = Path(folder)
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.keep_last = keep_last

    def files(self) -> list[Path]:
        """The checkpoints that are there, oldest first."""
        return sorted(self.folder.glob("checkpoint_[0-9]*.pt"))

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer; only the first process writes."""
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._say_how_to_go_on)
        if engine.rank > 0:
            return
        for half in self.folder.glob(".checkpoint_*.tmp"):  # of a run that was killed while it wrote
            half.unlink(missing_ok=True)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self.save)

    def _after_step(self, engine: SSLTrainer) -> None:
        """Within an epoch; its last step is saved when the epoch's measures are taken, or they would be lost."""
        if self._is_due(engine) and engine.state.iteration % engine.state.epoch_length:
            self.save(engine)

    def _after_epoch(self, engine: SSLTrainer) -> None:
        if self._is_due(engine) or engine.state.epoch % self.every_epochs == 0:
            self.save(engine)

    def _is_due(self, engine: SSLTrainer) -> bool:
        return self.every_steps is not None and engine.state.iteration % self.every_steps == 0

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
            source: "auto" takes the newest checkpoint of the folder that can be read, or starts from the beginning
                (the first process chooses for all); a path takes that file; None starts from the beginning.

        Raises:
            FileNotFoundError: if the path is not there.
            ValueError: if the checkpoint does not fit the method or the run, cannot be read, ``source`` is None and
                the folder holds another run, or ``source`` is older than what the folder holds.
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
            self._check_newest(engine.state.iteration)
            return
        chosen = from_first_process(self._load_newest(engine) if engine.rank == 0 else None)
        if chosen is not None and engine.rank > 0:
            self._load(engine, chosen)

    def _load_newest(self, engine: SSLTrainer) -> Path | None:
        """The newest checkpoint that can be read, after loading it."""
        for path in reversed(self.files()):
            try:
                self._load(engine, path)
                return path
            except _Damaged as error:
                logger.warning(f"{error}; trying the one before it")
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(".damaged"))
        return None

    def _check_newest(self, step: int) -> None:
        """Newer files of the folder would be kept instead of this run's, and taken by the next resume."""
        newer = [path for path in self.files() if int(path.stem.rpartition("_")[2]) > step]
        if newer:
            raise ValueError(
                f"{self.folder} holds newer checkpoints than step {step}, where this run starts: {newer[-1].name}; "
                "move them away, or name another folder for this run"
            )

    def _load(self, engine: SSLTrainer, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"checkpoint {path} is not there; resume='auto' takes the newest of {self.folder}")
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except _UNREADABLE as error:
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
