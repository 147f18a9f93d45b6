"""Checkpoints that a killed run resumes from, bit for bit."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import Any

from ignite.engine import Events

from monai_anat.distributed import from_first_process
from monai_anat.engines.resumable import ResumableTrainer
from monai_anat.handlers.checkpoint_file import FORMAT, DamagedCheckpointError, read_checkpoint, write_checkpoint

__all__ = ["Checkpointer"]

logger = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint_(\d{8,})\.pt")


class Checkpointer:
    """Write the whole training state at intervals, and resume a trainer from it.

    Attach it after all other handlers (in a bundle: in ``initialize``), so that their state is complete when it saves,
    and call ``resume`` before ``run``. Files whose names it did not give are never read or deleted. Ctrl-C and SIGTERM
    save a checkpoint before the process ends. A fine-tuning trainer is saved at the end of epochs only.

    Args:
        folder: folder of the files ``checkpoint_00000123.pt``, named by the step.
        every_epochs: epochs between checkpoints.
        every_steps: optimizer steps between further checkpoints, besides those at epochs.
        keep_last: number of files to keep.

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
        self.folder = Path(str(folder))  # the command line reads a folder 20241130 as a number
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.keep_last = keep_last

    def files(self) -> list[Path]:
        """List the checkpoints of the folder, oldest first.

        Raises:
            OSError: if the folder exists and cannot be read.
        """
        if not self.folder.exists():
            return []
        return sorted((path for path in self.folder.iterdir() if _NAME.fullmatch(path.name)), key=_step_of)

    def attach(self, engine: ResumableTrainer) -> None:
        """Register with the trainer; only the first process writes."""
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._stop)
        if engine.rank > 0:
            return
        engine.add_output_folder(self.folder)
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_step)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _begin(self, engine: ResumableTrainer) -> None:
        """Remove partial files of a killed run; this run has the lock of the folder, so nobody is writing them."""
        self._check_newest(engine.state.iteration)
        for partial in self.folder.glob(".checkpoint_*.tmp"):
            partial.unlink(missing_ok=True)

    def _after_step(self, engine: ResumableTrainer) -> None:
        """Save within an epoch. Its last step is saved after the metrics of the epoch, or they would be lost."""
        if engine.state.iteration % engine.state.epoch_length == 0:
            return
        if self._is_due(engine):
            self.save(engine)
        if engine.signals.received is not None:
            self._save_and_end(engine)

    def _after_epoch(self, engine: ResumableTrainer) -> None:
        if self._is_due(engine) or engine.state.epoch % self.every_epochs == 0:
            self.save(engine)
        if engine.signals.received is not None:
            self._save_and_end(engine)

    def _save_and_end(self, engine: ResumableTrainer) -> None:
        self.save(engine)
        raise engine.signals.exception()

    def _complete(self, engine: ResumableTrainer) -> None:
        self.save(engine)

    def _is_due(self, engine: ResumableTrainer) -> bool:
        return self.every_steps is not None and engine.state.iteration % self.every_steps == 0

    def save(self, engine: ResumableTrainer) -> None:
        """Write a checkpoint of the current step unless it exists, and remove the oldest ones.

        Nothing is written within an epoch if the trainer resumes at epochs only.

        Args:
            engine: the trainer, between two steps.

        Raises:
            OSError: if the file cannot be written.
        """
        within_epoch = engine.state.iteration % engine.state.epoch_length != 0
        path = self.folder / f"checkpoint_{engine.state.iteration:08d}.pt"
        if path.exists() or (within_epoch and not engine.resumes_within_epoch):
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        write_checkpoint({"format": FORMAT, **engine.training_state()}, path)
        for old in self.files()[: -self.keep_last]:
            old.unlink(missing_ok=True)

    # ------------------------------------------------------------------ resuming

    def resume(self, engine: ResumableTrainer, source: str | os.PathLike[str] | None = "auto") -> None:
        """Restore a trainer from a checkpoint.

        Args:
            engine: the trainer, before ``run``.
            source: "auto" takes the newest intact checkpoint of the folder, or starts from the beginning if there is no
                checkpoint (the first process chooses for all); a path takes that file; None starts from the beginning.

        Raises:
            FileNotFoundError: if the path does not exist.
            OSError: if a checkpoint cannot be read: missing permission, a failing disk. It is not damaged then.
            ValueError: if the checkpoint does not fit the method or the run, if all checkpoints are damaged, if
                ``source`` is None and the folder holds another run, or if ``source`` is older than what the folder
                holds.
        """
        if source is None:
            if self.files():
                raise ValueError(
                    f"{self.folder} holds checkpoints of an earlier run; use resume='auto' to continue it, "
                    "or choose another folder for a new run"
                )
            return
        if source != "auto":
            self._load(engine, Path(source))
            self._check_newest(engine.state.iteration)
            return
        chosen = from_first_process(self._load_newest(engine) if engine.rank == 0 else None)
        if chosen is not None and engine.rank > 0:
            self._load(engine, chosen)

    def _load_newest(self, engine: ResumableTrainer) -> Path | None:
        """Load the newest intact checkpoint and return its path; None if the folder has no checkpoint."""
        damaged: list[Path] = []
        for path in reversed(self.files()):
            try:
                self._load(engine, path)
            except DamagedCheckpointError as error:
                logger.warning(f"{error}; trying the one before it")
                damaged.append(path)
                continue
            for bad in damaged:
                with contextlib.suppress(OSError):
                    bad.rename(bad.with_suffix(".damaged"))
            return path
        damaged += self.folder.glob("checkpoint_*.damaged")
        if damaged:
            raise ValueError(
                f"none of the checkpoints in {self.folder} is intact ({', '.join(path.name for path in damaged)}). To "
                "start from step 0, remove them or choose another folder; to keep the run, restore one from a backup"
            )
        return None

    def _check_newest(self, step: int) -> None:
        """Refuse newer files in the folder: they would be kept instead of this run's and taken by the next resume."""
        newer = [path for path in self.files() if _step_of(path) > step]
        if newer:
            raise ValueError(
                f"{self.folder} holds newer checkpoints than step {step}, where this run starts: {newer[-1].name}; "
                "move them away, or choose another folder for this run"
            )

    def _load(self, engine: ResumableTrainer, path: Path) -> None:
        if not path.is_file():
            raise FileNotFoundError(
                f"checkpoint {path} does not exist; resume='auto' takes the newest of {self.folder}"
            )
        state: Any = read_checkpoint(path)
        if not isinstance(state, dict) or state.get("format") != FORMAT:
            raise ValueError(
                f"{path} is not a training checkpoint of this version; an encoder is given as finetune_model_path"
            )
        try:
            engine.load_training_state(state)
        except (RuntimeError, KeyError) as error:
            first = str(error).splitlines()[1 if "\n" in str(error) else 0].strip()
            raise ValueError(
                f"checkpoint {path} is of another method or network: {first}; resume with the configuration "
                "of its run, or start a new run in another folder"
            ) from error
        logger.info(f"Resuming from {path} at step {state['step']}.")

    def _stop(self, engine: ResumableTrainer, error: BaseException) -> None:
        """Save if a signal came while the trainer waited for data, and log how to continue."""
        if engine.rank == 0 and engine.signals.received is not None and engine.signals.waiting:
            self.save(engine)
        files = self.files()
        last = f"the last checkpoint is {files[-1]}" if files else "no checkpoint was written yet"
        logger.error(
            f"Stopped at step {engine.state.iteration} of {engine.progress.max_steps}: {last}. "
            "The same command with resume='auto' continues from there."
        )


def _step_of(path: Path) -> int:
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1
