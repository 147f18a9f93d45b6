"""Metrics of a fine-tuning run, one JSON line per epoch."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from monai_anat.engines.finetuning import FineTuneTrainer
from monai_anat.handlers.json_lines import drop_lines_after

__all__ = ["EpochLog"]


class EpochLog:
    """Write ``metrics.jsonl``: loss, learning rate, training and validation metrics of every epoch.

    A line holds ``step``, ``epoch``, ``loss`` (mean over the epoch's steps), ``lr``, the scalars of
    ``trainer.state.metrics``, and in epochs with a validation those of ``validator.state.metrics``. A resumed run
    writes the lines that an uninterrupted one would. Attach it after the ``ValidationHandler``.

    Args:
        folder: folder of ``metrics.jsonl``.

    >>> EpochLog("out").path.name
    'metrics.jsonl'
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.path = Path(str(folder)) / "metrics.jsonl"
        self._losses: list[Tensor] = []

    def attach(self, engine: FineTuneTrainer) -> None:
        """Register with the trainer; only the first process writes."""
        if engine.rank > 0:
            return
        engine.add_output_folder(self.path.parent)
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.EPOCH_STARTED, lambda: self._losses.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._write)

    def _begin(self, engine: FineTuneTrainer) -> None:
        drop_lines_after(engine.state.iteration, self.path)

    def _collect(self, engine: FineTuneTrainer) -> None:
        output = engine.state.output
        loss = output[0]["loss"] if isinstance(output, list) else output["loss"]
        self._losses.append(torch.as_tensor(loss).detach().float())

    def _write(self, engine: FineTuneTrainer) -> None:
        line: dict[str, Any] = {
            "step": engine.state.iteration,
            "epoch": engine.state.epoch,
            "loss": torch.stack(self._losses).mean().item(),
            "lr": engine.optimizer.param_groups[0]["lr"],
            **_scalars(engine.state.metrics),
        }
        validator = engine.validator
        if validator is not None and validator.state.epoch == engine.state.epoch:
            line |= _scalars(validator.state.metrics)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _scalars(metrics: Mapping[str, Any]) -> dict[str, float]:
    values = {name: torch.as_tensor(value) for name, value in metrics.items()}
    return {name: float(value) for name, value in values.items() if value.numel() == 1}
