"""Best model of a fine-tuning run."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.engines import Evaluator
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from monai_anat.distributed import is_main_process
from monai_anat.files import replace_file

__all__ = ["BestModelSaver"]

logger = logging.getLogger(__name__)


class BestModelSaver:
    """Save a network whenever a validation metric improves, and resume with the best value so far.

    MONAI's ``CheckpointSaver`` forgets the best value when a run resumes, so that a worse model replaces a better one.
    Give this handler to ``FineTuneTrainer`` as ``stateful={"best_model": saver}``, and attach it to the evaluator.

    Args:
        path: file of the weights, a state dict. It is replaced as a whole or not at all.
        network: network to save, without the wrapper of ``DistributedDataParallel``.
        metric: name of the metric in ``evaluator.state.metrics``.
        smaller_is_better: for a loss.
        on_save: function without arguments that is called after each save, such as one that writes the encoder record
            that belongs to the weights.

    Attributes:
        best: best value so far, or None.
        best_epoch: its epoch.

    >>> BestModelSaver("model.pt", nn.Linear(1, 1), metric="val_mean_dice").best is None
    True
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        network: nn.Module,
        *,
        metric: str,
        smaller_is_better: bool = False,
        on_save: Callable[[], Any] | None = None,
    ) -> None:
        self.path = Path(path)
        self.network = network
        self.metric = metric
        self.smaller_is_better = smaller_is_better
        self.on_save = on_save
        self.best: float | None = None
        self.best_epoch: int | None = None

    def attach(self, engine: Evaluator) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self)

    def __call__(self, engine: Evaluator) -> None:
        """Compare the metric with the best one, and save if it is better; every process keeps the best value.

        Raises:
            KeyError: if the evaluator has no such metric.
        """
        if self.metric not in engine.state.metrics:
            raise KeyError(f"metric must be one of {sorted(engine.state.metrics)}, got {self.metric!r}")
        value = float(engine.state.metrics[self.metric])
        if not self._is_better(value):
            return
        self.best, self.best_epoch = value, engine.state.epoch
        if is_main_process():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(self.path) as temporary:
                torch.save(_unwrapped(self.network).state_dict(), temporary)
            if self.on_save is not None:
                self.on_save()
            logger.info(f"{self.path} saved: {self.metric} {value:.4f} in epoch {self.best_epoch} is the best so far.")

    def _is_better(self, value: float) -> bool:
        if value != value:  # NaN: a metric that is undefined on these images
            return False
        return self.best is None or (value < self.best if self.smaller_is_better else value > self.best)

    def state_dict(self) -> dict[str, Any]:
        """Return the best value and its epoch."""
        return {"best": self.best, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.best, self.best_epoch = state["best"], state["best_epoch"]


def _unwrapped(network: nn.Module) -> nn.Module:
    inner: nn.Module = network.module if isinstance(network, DistributedDataParallel) else network
    return inner
