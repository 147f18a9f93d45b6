"""Orderly end of a run on Ctrl-C and SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

__all__ = ["StopSignals"]

logger = logging.getLogger(__name__)

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Context in which Ctrl-C and SIGTERM wait for the end of the current training step.

    A run that is interrupted inside a step cannot save an exact state. The first signal is therefore only recorded;
    the owner checks :attr:`received` after each step and raises :meth:`exception`. While the owner waits for data
    (:attr:`waiting`), the state is exact, and the exception is raised at once. A second signal acts immediately, as
    without this context. Outside of the main thread, where Python delivers no signals, the context does nothing.

    Attributes:
        received: the first signal, or None.
        waiting: whether the owner is between two steps, waiting for data.

    >>> with StopSignals() as signals:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     signals.received
    <Signals.SIGTERM: 15>
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self.waiting = False
        self._previous: dict[signal.Signals, Any] = {}

    def exception(self) -> BaseException:
        """Build the exception that ends the process: KeyboardInterrupt, or SystemExit with code 128 + signal."""
        if self.received is signal.SIGINT:
            return KeyboardInterrupt()
        return SystemExit(128 + int(self.received or 0))

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._receive) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _receive(self, number: int, frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()
        logger.warning(f"{self.received.name} received: stopping after the current step; a second one stops at once.")
        if self.waiting:
            raise self.exception()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
