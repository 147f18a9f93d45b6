"""Weights of the best validation epoch."""

from __future__ import annotations

import os
from math import inf
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_anat.distributed import is_main_process
from monai_anat.files import replace_file

__all__ = ["BestModel"]


class BestModel:
    """Keep the weights of the epoch with the best validation measure, outside the place of finished models.

    Attach it to the evaluator. ``state_dict`` and ``load_state_dict`` let a resumed run go on with the same best value.

    Args:
        network: the trained network; a data-parallel wrapper is removed.
        path: file for the best state dict. Its folder is created with the first write.
        metric: name in ``engine.state.metrics``.
        lower_is_better: whether the lowest value is the best, as for a loss.

    Attributes:
        best: the best value so far, or None.
        epoch: the epoch of the trainer that gave it, or None.

    >>> BestModel(nn.Linear(1, 1), "best.pt", "val_mean_dice").saved is None
    True
    """

    def __init__(
        self, network: nn.Module, path: str | os.PathLike[str], metric: str, lower_is_better: bool = False
    ) -> None:
        self.network, self.path, self.metric, self.lower_is_better = network, Path(path), metric, lower_is_better
        self.best: float | None = None
        self.epoch: int | None = None

    @property
    def saved(self) -> Path | None:
        """The file of the best weights, or None before the first validation."""
        return None if self.best is None else self.path

    def attach(self, engine: Engine) -> None:
        """Register with the evaluator."""
        engine.add_event_handler(Events.COMPLETED, self)

    def __call__(self, engine: Engine) -> None:
        """Save the weights if the measure improved. NaN never counts as better."""
        value = float(engine.state.metrics[self.metric])
        worst = inf if self.lower_is_better else -inf
        best = worst if self.best is None else self.best
        if not (value < best if self.lower_is_better else value > best):
            return
        self.best, self.epoch = value, int(engine.state.epoch)
        if is_main_process():
            inner: nn.Module = self.network
            if isinstance(inner, nn.parallel.DistributedDataParallel):
                inner = inner.module
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replace_file(self.path) as temporary:
                torch.save({name: tensor.detach().cpu() for name, tensor in inner.state_dict().items()}, temporary)

    def state_dict(self) -> dict[str, Any]:
        """The best value and its epoch."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over the best value and its epoch."""
        self.best, self.epoch = state["best"], state["epoch"]
