"""Training log: progress bar, ``metrics.jsonl``, TensorBoard scalars and pictures of views."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import time
from collections.abc import Mapping
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

__all__ = ["TrainingLog", "pictures_of_views"]

logger = logging.getLogger(__name__)


class TrainingLog:
    """Log loss terms, rates and the time left every few steps, and pictures of the views every few epochs.

    A line of ``metrics.jsonl`` holds ``step``, ``epoch``, ``loss`` and each term (means since the last line, over the
    joint batch of all processes and the steps that had the term), ``grad_norm``, ``lr``, ``samples_per_second``,
    ``data_wait_share`` (share of the time in which the trainer waited for data) and ``seconds_left``. At the end of an
    epoch it also holds ``state.metrics`` and the method's own metrics. Values are summed on the device and read once
    per line. The sums are part of a checkpoint, so a resumed run writes the values that an uninterrupted one writes. A
    run that is stopped between two lines ends with a line marked ``partial``, which the resumed run removes. The last
    line is also ``state.log_line``.

    Args:
        folder: folder of ``metrics.jsonl`` and of TensorBoard's event files.
        every: optimizer steps between lines.
        pictures_every: epochs between pictures; 0 draws none.
        tensorboard: whether to write event files.
        progress_bar: whether to draw a progress bar; otherwise lines are logged.

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
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self._first_step = self._step = 0
        self._start_clock(0)

    def attach(self, engine: SSLTrainer) -> None:
        """Register with the trainer; only the first process logs."""
        if engine.rank > 0:
            return
        engine.add_output_folder(self.folder)
        engine.add_state("training_log", self)
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._wait)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._waited)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._count)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self.close)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    # ------------------------------------------------------------------ start and end

    def state_dict(self) -> dict[str, Any]:
        """Return the sums since the last line."""
        sums = {name: value.cpu() for name, value in self._sums.items()}
        return {"sums": sums, "counts": dict(self._counts), "first_step": self._first_step, "step": self._step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
        self._first_step, self._step = state["first_step"], state["step"]

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
        self._sums = {name: value.to(engine.device) for name, value in self._sums.items()}
        self._start_clock(engine.state.iteration)

    def close(self, engine: SSLTrainer) -> None:
        """Write the line of the last steps and close the files.

        Args:
            engine: the trainer.
        """
        self._line(engine, is_partial=not engine.is_complete)
        if self._bar is not None:
            self._bar.close()
        if self._writer is not None:
            self._writer.close()
        self._bar = self._writer = None

    def _fail(self, engine: SSLTrainer, error: BaseException) -> None:
        with contextlib.suppress(OSError, RuntimeError):  # of a full disk or a failed device, which raised the error
            self.close(engine)

    # ------------------------------------------------------------------ lines

    def _start_clock(self, step: int) -> None:
        self._clock_step = step
        self._started = self._wait_started = time.perf_counter()
        self._waiting = 0.0

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

    def _line(self, engine: SSLTrainer, extra: dict[str, float] | None = None, is_partial: bool = False) -> None:
        step = self._step
        if step <= self._first_step and not extra:
            return
        line: dict[str, float | int] = {"step": step, "epoch": engine.state.epoch}
        if step > self._first_step:
            sums = torch.stack([value.float() for value in self._sums.values()]).tolist()
            line |= {name: value / self._counts[name] for name, value in zip(self._sums, sums, strict=True)}
            line["lr"] = next(iter(engine.optimizers.values())).param_groups[0]["lr"]
            line |= self._speed(engine, step)
            self._sums, self._counts, self._first_step = {}, {}, step
            self._start_clock(step)
        line |= extra or {}
        engine.state.log_line = line
        self._write(line | ({"partial": 1} if is_partial else {}))

    def _speed(self, engine: SSLTrainer, step: int) -> dict[str, float]:
        """Speed since the last line, or since the run was resumed."""
        seconds, count = time.perf_counter() - self._started, step - self._clock_step
        if count < 1:
            return {}
        return {
            "samples_per_second": count * (engine.batch_size or 0) / seconds,
            "data_wait_share": self._waiting / seconds,
            "seconds_left": seconds / count * (engine.progress.max_steps - step),
        }

    def _write(self, line: dict[str, float | int]) -> None:
        with (self.folder / "metrics.jsonl").open("a") as file:
            short = {key: float(f"{value:.8g}") if isinstance(value, float) else value for key, value in line.items()}
            file.write(json.dumps(short) + "\n")
        if self._writer is not None and "partial" not in line:
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
        if self._writer is None:
            return
        for name, picture in getattr(engine.state, "pictures", {}).items():
            self._writer.add_image(name, picture, engine.state.iteration)
        if self.pictures_every and engine.state.epoch % self.pictures_every == 0:
            for name, pictures in pictures_of_views(engine.state.batch).items():
                self._writer.add_images(name, pictures, engine.state.iteration)


def pictures_of_views(batch: Mapping[str, Any], count: int = 8) -> dict[str, Tensor]:
    """Bring the views of a batch to pictures.

    Args:
        batch: views and targets by key, (B, C, H, W), or (B, C, H, W, D) for volumes, whose middle slice is shown.
        count: number of samples.

    Returns:
        (N, 1, H, W) in [0, 1] by key; keys without images are absent.

    >>> pictures_of_views({"view_1": torch.rand(9, 1, 4, 4)})["view_1"].shape
    torch.Size([8, 1, 4, 4])
    """
    pictures: dict[str, Tensor] = {}
    for key in (VIEW_1, VIEW_2, TARGET):
        views = batch.get(key)
        if not isinstance(views, Tensor) or views.ndim < 4:
            continue
        views = views[:count].float().cpu()
        if views.ndim == 5:
            views = views[..., views.shape[-1] // 2]
        low, high = views.amin((1, 2, 3), keepdim=True), views.amax((1, 2, 3), keepdim=True)
        pictures[key] = ((views - low) / (high - low).clamp_min(1e-6))[:, :1]
    return pictures
