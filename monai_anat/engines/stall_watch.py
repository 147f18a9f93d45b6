"""Warning while a distributed run makes no progress."""

from __future__ import annotations

import logging
import threading
import time
from types import TracebackType
from typing import Protocol

__all__ = ["StallWatch"]

logger = logging.getLogger(__name__)


class _Run(Protocol):
    rank: int
    world_size: int
    state: object


class StallWatch:
    """Context that logs a warning when a run of several processes makes no step for a long time.

    In a collective operation all processes wait for the slowest one, without a message. A stopped or dead process is
    thus waited for until the time limit of ``torch.distributed``. The warning names the step and the wait. It is
    repeated each time the wait has doubled. With one process the context does nothing.

    Args:
        run: a trainer with ``rank``, ``world_size`` and ``state.iteration``.
        seconds: wait before the first warning.

    >>> from types import SimpleNamespace
    >>> with StallWatch(SimpleNamespace(rank=0, world_size=1, state=SimpleNamespace(iteration=0))) as watch:
    ...     watch.is_active
    False
    """

    def __init__(self, run: _Run, seconds: float = 60.0) -> None:
        self.run = run
        self.seconds = seconds
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_active(self) -> bool:
        """Whether the watching thread runs."""
        return self._thread is not None

    def __enter__(self) -> StallWatch:
        if self.run.world_size > 1:
            self._thread = threading.Thread(target=self._watch, daemon=True, name="stall watch")
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()

    def _watch(self) -> None:
        step, since, limit = self._step(), time.monotonic(), self.seconds
        while not self._end.wait(min(1.0, self.seconds / 4)):
            now = self._step()
            if now != step:
                step, since, limit = now, time.monotonic(), self.seconds
            elif time.monotonic() - since >= limit:
                limit *= 2
                logger.warning(
                    f"Process {self.run.rank} has been at step {step} for {time.monotonic() - since:.0f} s. It may be "
                    f"waiting for another of the {self.run.world_size} processes: look for one that is stopped, that "
                    "reads data slowly, or, for process 0, that runs a probe or writes a checkpoint."
                )

    def _step(self) -> int:
        step: int = getattr(self.run.state, "iteration", 0)
        return step
