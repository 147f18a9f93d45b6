"""Report of steps with non-finite gradients, and a stop when they do not end."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from monai_anat.engines.trainer import SSLTrainer
from monai_anat.handlers.json_lines import drop_lines_after

__all__ = ["NonFiniteGuard"]

logger = logging.getLogger(__name__)


class NonFiniteGuard:
    """Record the samples of steps with non-finite gradients, and stop the run after too many such steps in a row.

    The trainer skips such a step on the device. This handler collects its flags and reads them every few steps, so the
    host waits for the device once per reading and not once per step.

    Args:
        folder: folder of ``nonfinite.jsonl``, with a line ``{"step": ..., "rank": ..., "samples": [...]}`` for each
            skipped step; samples are indices into the dataset.
        stop_after: number of skipped steps in a row after which the run stops.
        every: optimizer steps between two readings.

    >>> NonFiniteGuard("out", stop_after=5).stop_after
    5
    """

    def __init__(self, folder: str | os.PathLike[str], *, stop_after: int = 10, every: int = 10) -> None:
        self.path = Path(str(folder)) / "nonfinite.jsonl"
        self.stop_after = stop_after
        self.every = every
        self._pending: list[tuple[int, Tensor, Any]] = []
        self._in_a_row = 0

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer."""
        if engine.rank == 0:
            engine.add_output_folder(self.path.parent)
            engine.add_state("non_finite_guard", self)
            engine.add_event_handler(Events.STARTED, lambda e: drop_lines_after(e.state.iteration, self.path))
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.read)

    def state_dict(self) -> dict[str, Any]:
        """Return the flags that were not read yet, and the number of skipped steps in a row."""
        pending = [
            (step, skipped.cpu(), samples.tolist() if isinstance(samples, Tensor) else None)
            for step, skipped, samples in self._pending
        ]
        return {"pending": pending, "in_a_row": self._in_a_row}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._pending = [
            (step, skipped, None if samples is None else torch.tensor(samples))
            for step, skipped, samples in state["pending"]
        ]
        self._in_a_row = state["in_a_row"]

    def _collect(self, engine: SSLTrainer) -> None:
        self._pending.append((engine.state.iteration, engine.state.skipped, engine.state.sample_ids))
        if len(self._pending) >= self.every:
            self.read(engine)

    def read(self, engine: SSLTrainer) -> None:
        """Read the flags collected since the last reading.

        Args:
            engine: the trainer.

        Raises:
            FloatingPointError: if ``stop_after`` steps in a row were skipped.
        """
        pending, self._pending = self._pending, []
        if not pending:
            return
        flags = torch.stack([skipped.to(engine.device) for _, skipped, _ in pending]).tolist()
        for (step, _, samples), skipped in zip(pending, flags, strict=True):
            self._in_a_row = self._in_a_row + 1 if skipped else 0
            if skipped:
                self._write(engine, step, samples)
            if self._in_a_row >= self.stop_after:
                raise FloatingPointError(
                    f"the gradients of {self._in_a_row} steps in a row were not finite (up to step {step}); their "
                    f"samples are in {self.path}. Look at those images, or use a lower learning rate or "
                    "precision='fp32'"
                )

    def _write(self, engine: SSLTrainer, step: int, samples: Any) -> None:
        ids = samples.tolist() if isinstance(samples, Tensor) else None
        logger.warning(f"Step {step} was skipped: its gradients were not finite (samples {ids}).")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(json.dumps({"step": step, "rank": engine.rank, "samples": ids}) + "\n")
