"""Trainer base class with exact resuming, folder locks and an orderly end."""

from __future__ import annotations

import contextlib
import logging
import os
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from ignite.engine import Events
from monai.engines import SupervisedTrainer

from monai_anat.data.sampling import ResumableSampler
from monai_anat.distributed import explain_lost_process, get_rank_and_world_size
from monai_anat.engines.stall_watch import StallWatch
from monai_anat.engines.stop_signals import StopSignals
from monai_anat.files import FolderLock
from monai_anat.schedules import Progress

__all__ = ["LostProcessError", "ResumableTrainer", "Stateful"]

logger = logging.getLogger(__name__)

_MEANINGS = {
    "consumed": "the number of consumed samples (batch_size)",
    "images": "the number of images",
    "optimizer_kinds": "the kind of optimizer",
}
#: entries that a checkpoint may lack
_OPTIONAL = ("images", "optimizer_kinds")


class LostProcessError(RuntimeError):
    """Another process of the run ended or does not answer."""


class Stateful(Protocol):
    """Object with a state that is part of a checkpoint."""

    def state_dict(self) -> Mapping[str, Any]:
        """Return tensors, numbers, strings, and lists and dicts of them."""

    def load_state_dict(self, state: Any) -> Any:
        """Restore what ``state_dict`` returned."""


class ResumableTrainer(SupervisedTrainer):
    """MONAI trainer that a killed process resumes exactly.

    The data order follows from the number of consumed samples (:class:`~monai_anat.data.sampling.ResumableSampler`),
    random numbers from the seed and the step, and everything else is part of :meth:`training_state`. While the trainer
    runs, it locks the folders that its handlers write to, and Ctrl-C or SIGTERM end it after the current step.

    Subclasses implement :meth:`model_state` and :meth:`load_model_state`.

    Args:
        seed: random seed of the run.
        schedule_epochs: epochs over which schedules extend; the default is ``max_epochs``. Federated learning trains
            a few epochs per round and sets the epochs of all rounds here.
        options: for ``monai.engines.SupervisedTrainer``.

    Attributes:
        signals: the signal that ends the run, if any.
    """

    #: whether a checkpoint between two steps of an epoch is exact
    resumes_within_epoch = True

    def __init__(self, *, seed: int = 0, schedule_epochs: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.seed = seed
        self.schedule_epochs = schedule_epochs
        self.rank, self.world_size = get_rank_and_world_size()
        self.signals = StopSignals()
        self._folders: list[Path] = []
        self._parts: dict[str, Stateful] = {}
        self._failure: BaseException | None = None
        self.add_event_handler(Events.GET_BATCH_STARTED, self._set_waiting, True)
        self.add_event_handler(Events.GET_BATCH_COMPLETED, self._set_waiting, False)

    # ------------------------------------------------------------------ for handlers

    def add_output_folder(self, folder: str | os.PathLike[str]) -> None:
        """Lock a folder while the trainer runs; handlers that write files call it when they are attached."""
        if Path(folder) not in self._folders:
            self._folders.append(Path(folder))

    def add_state(self, name: str, part: Stateful) -> None:
        """Make an object's state a part of :meth:`training_state`.

        Args:
            name: key of the state. If it is taken, a number is appended.
            part: the object.
        """
        names = (name, *(f"{name}_{number}" for number in range(2, 99)))
        self._parts[next(free for free in names if free not in self._parts)] = part

    @property
    def progress(self) -> Progress:
        """Position in the run. Inside an iteration, the step that is being made."""
        step = max(0, self.state.iteration - 1)
        epochs = self.schedule_epochs or self.state.max_epochs
        return Progress(
            epoch=step // self.state.epoch_length,
            max_epochs=epochs,
            step=step,
            max_steps=epochs * self.state.epoch_length,
        )

    @property
    def batch_size(self) -> int | None:
        """Samples per optimizer step over all processes; None if the loader has no ``ResumableSampler``."""
        return self._sampler.batch_size if self._sampler is not None else None

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done."""
        done: bool = self.state.iteration >= self._max_steps
        return done

    @property
    def _max_steps(self) -> int:
        steps: int = self.state.max_epochs * self.state.epoch_length
        return steps

    @property
    def _sampler(self) -> ResumableSampler | None:
        sampler = getattr(self.data_loader, "sampler", None)
        return sampler if isinstance(sampler, ResumableSampler) else None

    # ------------------------------------------------------------------ running

    def run(self) -> None:  # type: ignore[override]
        """Train from the current state to ``max_epochs``; log and return if the run is complete.

        Raises:
            FolderInUseError: if another process writes to one of the output folders.
        """
        if self.is_complete:
            logger.info(
                f"The run is complete ({self.state.iteration} of {self._max_steps} steps); raise max_epochs to "
                "continue, or empty the checkpoint folder to start again."
            )
            return
        if self._sampler is not None:
            self._sampler.consumed = self.state.iteration * self._sampler.batch_size
        elif self.state.iteration % self.state.epoch_length:
            logger.warning(
                "The loader has no ResumableSampler, so the samples of the interrupted epoch are drawn again; "
                "use monai_anat.data.resumable_loader for an exact resume."
            )
        self._failure = None
        with contextlib.ExitStack() as stack:
            for folder in self._folders if self.rank == 0 else ():
                stack.enter_context(FolderLock(folder, f"training ({type(self).__name__})"))
            self.signals = stack.enter_context(StopSignals())
            stack.enter_context(StallWatch(self))
            super().run()

    def _set_waiting(self, waiting: bool) -> None:
        self.signals.waiting = waiting

    def _handle_exception(self, e: BaseException) -> None:
        """Fire ``EXCEPTION_RAISED`` once, then raise: Ignite would swallow the error."""
        if e is not self._failure:  # Ignite calls this from its inner and its outer loop
            self._failure = e
            try:
                self._fire_event(Events.EXCEPTION_RAISED, e)
            except Exception:  # must not replace the first error
                logger.exception("A handler failed while the run was being stopped.")
        if (explanation := explain_lost_process(e)) is not None and not isinstance(e, LostProcessError):
            raise LostProcessError(explanation) from e
        raise e

    # ------------------------------------------------------------------ state

    @abstractmethod
    def model_state(self) -> dict[str, Any]:
        """Return the states of networks, optimizers and scalers."""

    @abstractmethod
    def load_model_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`model_state` returned."""

    def optimizer_kinds(self) -> dict[str, str]:
        """Class names of the optimizers; resuming with another kind is refused."""
        return {"main": type(self.optimizer).__name__}

    def training_state(self) -> dict[str, Any]:
        """Everything that a resumed run needs; schedules and random states need nothing."""
        return {
            **self.model_state(),
            "step": self.state.iteration,
            "consumed": self.state.iteration * (self.batch_size or 0),
            "epoch_length": self.state.epoch_length,
            "seed": self.seed,
            "images": self._sampler.size if self._sampler is not None else None,
            "optimizer_kinds": self.optimizer_kinds(),
            "best_metric": self.state.best_metric,
            "best_metric_epoch": self.state.best_metric_epoch,
            "parts": {name: dict(part.state_dict()) for name, part in self._parts.items()},
        }

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`training_state` returned.

        Raises:
            ValueError: if the run has another seed, batch size, epoch length, number of images or kind of optimizer, so
                that resuming would not be exact.
        """
        expected = {
            "seed": self.seed,
            "consumed": state["step"] * (self.batch_size or 0),
            "epoch_length": self.state.epoch_length,
            "images": self._sampler.size if self._sampler is not None else None,
            "optimizer_kinds": self.optimizer_kinds(),
        }
        for name, value in expected.items():
            found = state.get(name, value) if name in _OPTIONAL else state[name]
            if found != value:
                raise ValueError(
                    f"checkpoint and run differ in {_MEANINGS.get(name, name)}: {found} in the checkpoint, {value} in "
                    "this run; resume with the settings and data of the first run, or start a new one in another folder"
                )
        self.load_model_state(state)
        self.state.iteration = state["step"]
        self.state.epoch = state["step"] // self.state.epoch_length
        self.state.best_metric = state["best_metric"]
        self.state.best_metric_epoch = state["best_metric_epoch"]
        for name, part in self._parts.items():
            if name in state.get("parts", {}):
                part.load_state_dict(state["parts"][name])
