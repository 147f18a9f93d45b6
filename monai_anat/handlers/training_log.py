"""What the run says of itself: a progress bar, ``metrics.jsonl``, TensorBoard scalars and pictures of views."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from tqdm.auto import tqdm

from monai_anat.engines.trainer import SSLTrainer
from monai_anat.handlers.json_lines import drop_lines_after
from monai_anat.keys import TARGET, VIEW_1, VIEW_2

__all__ = ["TrainingLog"]

logger = logging.getLogger(__name__)


class TrainingLog:
    """Loss terms, rates and time left, every few steps; pictures of the views, every few epochs.

    A line of ``metrics.jsonl`` holds ``step``, ``epoch``, ``loss`` and each term (means since the last line, over the
    joint batch of all processes and the steps that had the term),
    ``grad_norm``, ``lr``, ``samples_per_second``, ``data_wait_share`` (share of the time in which the trainer waited
    for data), ``seconds_left``, and at the end of an epoch whatever stands in ``state.metrics`` and the method's own
    metrics. Values are summed on the device and read once per line.

    Args:
        folder: gets ``metrics.jsonl`` and TensorBoard's event files.
        every: optimizer steps between lines.
        pictures_every: epochs between pictures; 0 draws none.
        tensorboard: False writes no event files.
        progress_bar: False draws no bar; lines are logged instead.

    >>> TrainingLog("out", every=20).every
    20
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        every: int = 10,
        pictures_every: int = 1,
        tensorboard: bool = True,
        progress_bar: bool = True,
    ) -> None:
        self.folder = Path(str(folder))
        self.every = every
        self.pictures_every = pictures_every
        self.tensorboard = tensorboard
        self.progress_bar = progress_bar
        self._bar: Any = None
        self._writer: SummaryWriter | None = None
        self._reset(0)

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer; only the first process logs."""
        if engine.rank > 0:
            return
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._wait)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._waited)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    # ------------------------------------------------------------------ life

    def _start(self, engine: SSLTrainer) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        drop_lines_after(engine.state.iteration, self.folder / "metrics.jsonl")
        if self.tensorboard:
            self._writer = SummaryWriter(str(self.folder), purge_step=engine.state.iteration + 1)
        if self.progress_bar:
            total = engine.progress.max_steps
            self._bar = tqdm(
                total=total, initial=engine.state.iteration, unit="step", desc=type(engine.method).__name__
            )
        self._reset(engine.state.iteration)

    def close(self, engine: SSLTrainer) -> None:
        """Write what is left and close the files."""
        self._line(engine)
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            self._writer.close()
        self._bar = self._writer = None

    def _fail(self, engine: SSLTrainer, error: BaseException) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # of a full disk or a failed device: it is told already
            self.close(engine)

    # ------------------------------------------------------------------ counting

    def _reset(self, step: int) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._first_step = self._step = step
        self._started = time.perf_counter()
        self._waiting = 0.0
        self._wait_started = self._started

    def _wait(self, engine: SSLTrainer) -> None:
        self._wait_started = time.perf_counter()

    def _waited(self, engine: SSLTrainer) -> None:
        self._waiting += time.perf_counter() - self._wait_started

    def _count(self, engine: SSLTrainer) -> None:
        for name, value in {**engine.state.output[0], "grad_norm": engine.state.grad_norm}.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.clone()
            self._counts[name] = self._counts.get(name, 0) + 1
        self._step = engine.state.iteration
        if self._bar is not None:
            self._bar.update()
        if engine.state.iteration % self.every == 0:
            self._line(engine)

    def _line(self, engine: SSLTrainer, extra: dict[str, float] | None = None) -> None:
        step, count = self._step, self._step - self._first_step  # a step that failed is none
        if count < 1 and not extra:
            return
        line: dict[str, float | int] = {"step": step, "epoch": engine.state.epoch}
        if count > 0:
            seconds = time.perf_counter() - self._started
            sums = torch.stack([value.float() for value in self._sums.values()]).tolist()
            line |= {name: value / self._counts[name] for name, value in zip(self._sums, sums, strict=True)}
            line["lr"] = next(iter(engine.optimizers.values())).param_groups[0]["lr"]
            line["samples_per_second"] = count * (engine.batch_size or 0) / seconds
            line["data_wait_share"] = self._waiting / seconds
            line["seconds_left"] = seconds / count * (engine.progress.max_steps - step)
            self._reset(step)
        line |= extra or {}
        self._write(line)

    def _write(self, line: dict[str, float | int]) -> None:
        with (self.folder / "metrics.jsonl").open("a") as file:
            short = {key: float(f"{value:.8g}") if isinstance(value, float) else value for key, value in line.items()}
            file.write(json.dumps(short) + "\n")
        if self._writer is not None:
            for key, value in line.items():
                if key not in ("step", "epoch"):
                    self._writer.add_scalar(key, value, int(line["step"]))
        short = {key: value for key, value in line.items() if key not in ("step", "epoch", "lr", "seconds_left")}
        text = ", ".join(f"{key} {value:.4g}" for key, value in short.items())
        if self._bar is not None:
            self._bar.set_postfix_str(text)
        else:
            logger.info(f"step {line['step']}: {text}, {line.get('seconds_left', 0):.0f} s left")

    # ------------------------------------------------------------------ epochs

    def _epoch(self, engine: SSLTrainer) -> None:
        found = {**engine.state.metrics, **engine.method.metrics()}
        metrics = {key: float(value) for key, value in found.items()}
        if metrics:
            self._line(engine, metrics)
        if self._writer is not None:
            for name, picture in getattr(engine.state, "pictures", {}).items():
                self._writer.add_image(name, picture, engine.state.iteration)
        if self._writer is not None and self.pictures_every and engine.state.epoch % self.pictures_every == 0:
            self._pictures(self._writer, engine)

    def _pictures(self, writer: SummaryWriter, engine: SSLTrainer) -> None:
        for key in (VIEW_1, VIEW_2, TARGET):
            views = engine.state.batch.get(key)
            if not isinstance(views, Tensor):
                continue
            views = views[:8].float().cpu()
            if views.ndim == 5:  # the middle slice of a volume
                views = views[..., views.shape[-1] // 2]
            low, high = views.amin((1, 2, 3), keepdim=True), views.amax((1, 2, 3), keepdim=True)
            writer.add_images(key, ((views - low) / (high - low).clamp_min(1e-6))[:, :1], engine.state.iteration)
