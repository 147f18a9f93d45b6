"""Supervised trainer that resumes exactly."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ignite.engine import Events
from monai.engines import Evaluator
from monai.handlers import EarlyStopHandler
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from monai_anat.engines.resumable import ResumableTrainer, Stateful
from monai_anat.seeding import seed_step

__all__ = ["FineTuneTrainer"]


class FineTuneTrainer(ResumableTrainer):
    """MONAI's ``SupervisedTrainer`` with the guarantees of :class:`~monai_anat.engines.trainer.SSLTrainer`.

    With a loader from :func:`monai_anat.data.resumable_loader` and a
    :class:`~monai_anat.handlers.checkpoint.Checkpointer`, a killed run ends with the same weights, epoch metrics and
    best model as an uninterrupted one, bit for bit. Checkpoints are written at the end of epochs, after validation,
    because metrics accumulate over a whole epoch; a resumed run repeats the interrupted epoch.

    Args:
        network: network to train, possibly wrapped in ``DistributedDataParallel``.
        optimizer: its optimizer.
        seed: random seed of the run; torch is seeded from (seed, step, rank) before every step.
        validator: evaluator of the run. Its best metric and epoch belong to the checkpoint.
        stateful: further objects with ``state_dict`` and ``load_state_dict`` that belong to the checkpoint, by name:
            a learning-rate scheduler, a ``BestModelSaver``, MONAI's ``EarlyStopHandler`` (after ``set_trainer``).
        train_handlers: objects with ``attach(trainer)``.
        options: for ``monai.engines.SupervisedTrainer``, and ``schedule_epochs``.

    >>> import torch
    >>> from monai_anat.data.sampling import SeededDataset, resumable_loader
    >>> network = nn.Linear(2, 1)
    >>> data = SeededDataset([{"image": torch.ones(2), "label": torch.ones(1)} for _ in range(4)])
    >>> trainer = FineTuneTrainer(
    ...     device="cpu", max_epochs=1, train_data_loader=resumable_loader(data, batch_size=2), network=network,
    ...     optimizer=torch.optim.SGD(network.parameters(), lr=0.1), loss_function=nn.MSELoss())
    >>> trainer.run()
    >>> trainer.state.iteration
    2
    """

    #: checkpoints within an epoch would lose the metrics of its first part
    resumes_within_epoch = False

    def __init__(
        self,
        *,
        network: nn.Module,
        optimizer: Optimizer,
        seed: int = 0,
        validator: Evaluator | None = None,
        stateful: Mapping[str, Stateful | EarlyStopHandler] | None = None,
        train_handlers: Sequence[Any] | None = None,
        **options: Any,
    ) -> None:
        super().__init__(network=network, optimizer=optimizer, seed=seed, **options)
        self.validator = validator
        self._scaler_state: Mapping[str, Any] = {}
        self._stateful = dict(stateful or {})
        for name, part in self._stateful.items():
            self.add_state(name, _EarlyStop(part) if isinstance(part, EarlyStopHandler) else part)
        self.add_event_handler(Events.STARTED, self._restore_scaler)
        self.add_event_handler(Events.ITERATION_STARTED, self._seed_step)
        self._register_handlers(train_handlers or ())

    @property
    def is_complete(self) -> bool:
        """Whether all steps are done, or early stopping ended the run."""
        return super().is_complete or any(isinstance(p, _EarlyStop) and p.has_ended for p in self._parts.values())

    def _seed_step(self) -> None:
        seed_step(self.seed, self.progress.step, self.rank)

    def _restore_scaler(self) -> None:
        """MONAI makes a new gradient scaler at the start of every run."""
        if self.scaler is not None and self._scaler_state:
            self.scaler.load_state_dict(dict(self._scaler_state))

    def model_state(self) -> dict[str, Any]:
        """Return the states of network, optimizer, gradient scaler and validator."""
        best = (self.validator.state.best_metric, self.validator.state.best_metric_epoch) if self.validator else None
        return {
            "network": _unwrapped(self.network).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "grad_scaler": self.scaler.state_dict() if self.scaler is not None else {},
            "validator": list(best) if best is not None else None,
        }

    def load_model_state(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`model_state` returned."""
        _unwrapped(self.network).load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._scaler_state = state["grad_scaler"]
        if self.validator is not None and state["validator"] is not None:
            self.validator.state.best_metric, self.validator.state.best_metric_epoch = state["validator"]


class _EarlyStop:
    """State of MONAI's ``EarlyStopHandler``, which has no ``state_dict`` of its own."""

    def __init__(self, handler: EarlyStopHandler) -> None:
        self.handler = handler

    def state_dict(self) -> dict[str, Any]:
        inner = self._inner()
        return {"counter": inner.counter, "best_score": inner.best_score}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        inner = self._inner()
        inner.counter, inner.best_score = state["counter"], state["best_score"]

    @property
    def has_ended(self) -> bool:
        """Whether the patience is exhausted."""
        inner: Any = self.handler._handler
        return inner is not None and bool(inner.counter >= self.handler.patience)

    def _inner(self) -> Any:
        inner: Any = self.handler._handler
        if inner is None:
            raise RuntimeError("call set_trainer(trainer) of the EarlyStopHandler before resuming or running")
        return inner


def _unwrapped(network: nn.Module) -> nn.Module:
    inner: nn.Module = network.module if isinstance(network, DistributedDataParallel) else network
    return inner
