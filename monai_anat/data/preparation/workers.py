"""Worker processes with a time limit per task, which a task may crash or hang without harm to the others."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

__all__ = [
    "CRASHED",
    "run_in_processes",
    "timed_out",
]

Task = TypeVar("Task")
Result = TypeVar("Result")

#: reason for a task that ended its process
CRASHED = "decoding the file ended the process"
_WINDOW = 8  # tasks per worker that may wait for an earlier one
_ORPHAN_CHECK = 5.0  # seconds after which an idle worker looks whether its parent still runs
_GRACE = 5  # seconds beyond the limit after which a worker ends itself, should its parent be gone


def timed_out(seconds: float) -> str:
    """Return the reason for a task that took longer than the time limit.

    Args:
        seconds: the limit.

    >>> timed_out(60.0)
    'decoding the file took longer than the time limit of 60 s'
    """
    return f"decoding the file took longer than the time limit of {seconds:g} s"


def run_in_processes(
    function: Callable[[Task], Result],
    tasks: Iterator[Task | None],
    workers: int,
    time_limit: float,
    failed: Callable[[Task, str], Result],
) -> Iterator[Result | None]:
    """Run tasks in processes and yield their results in the order of the tasks.

    Args:
        function: called in a worker process with a task. Function, tasks and results must be picklable.
        tasks: tasks; None stands for a task without work, whose result is None.
        workers: number of processes.
        time_limit: seconds that one task may take.
        failed: makes the result of a task that ended its process or took too long, from the task and the reason.
    """
    pool: list[_Worker[Task, Result]] = [_Worker(function) for _ in range(workers)]
    slots: deque[_Slot[Task, Result]] = deque()
    more = True
    try:
        while True:
            for worker in pool:
                while more and worker.slot is None and len(slots) < _WINDOW * workers:
                    try:
                        task = next(tasks)
                    except StopIteration:
                        more = False
                        break
                    slots.append(_Slot(task, done=task is None))
                    if task is not None:
                        worker.begin(slots[-1], time_limit)
            while slots and slots[0].done:
                yield slots.popleft().result
            if slots:
                _collect(pool, time_limit, failed)
            elif not more:
                return
    finally:
        for worker in pool:
            worker.end()


@dataclass(eq=False)
class _Slot(Generic[Task, Result]):
    """A task and its place in the order of results."""

    task: Task | None
    done: bool
    result: Result | None = field(default=None)


class _Worker(Generic[Task, Result]):
    """One process that works on one task at a time."""

    def __init__(self, function: Callable[[Task], Result]) -> None:
        self.function = function
        self.slot: _Slot[Task, Result] | None = None
        self.deadline = 0.0
        self.start()

    def start(self) -> None:
        self.connection, other = multiprocessing.Pipe()
        self.process = multiprocessing.Process(target=_serve, args=(self.function, other, os.getpid()), daemon=True)
        self.process.start()
        other.close()

    def begin(self, slot: _Slot[Task, Result], time_limit: float) -> None:
        self.slot, self.deadline = slot, time.monotonic() + time_limit
        try:
            self.connection.send((slot.task, time_limit))
        except (BrokenPipeError, ConnectionResetError):  # killed while idle, by the system or a user
            self.end()
            self.start()
            self.connection.send((slot.task, time_limit))

    def finish(self, result: Result) -> None:
        if self.slot is not None:
            self.slot.result, self.slot.done = result, True
        self.slot = None

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


def _collect(pool: list[_Worker[Task, Result]], time_limit: float, failed: Callable[[Task, str], Result]) -> None:
    """Wait for the next result, crash or deadline."""
    busy = {worker.connection: worker for worker in pool if worker.slot is not None}
    patience = max(0.0, min(worker.deadline for worker in busy.values()) - time.monotonic())
    ready = set(wait(list(busy), timeout=patience))
    for connection, worker in busy.items():
        reason = ""
        if connection in ready:
            try:
                worker.finish(connection.recv())
            except (EOFError, ConnectionResetError):
                worker.process.join(_GRACE)
                alarm = worker.process.exitcode == -getattr(signal, "SIGALRM", -1)
                reason = timed_out(time_limit) if alarm else CRASHED
        elif time.monotonic() >= worker.deadline:
            reason = timed_out(time_limit)
        if reason and worker.slot is not None and worker.slot.task is not None:
            task = worker.slot.task
            worker.end()
            worker.finish(failed(task, reason))
            worker.start()


def _serve(function: Callable[[Any], Any], connection: Connection, parent: int) -> None:
    """Work on tasks until the parent closes the connection or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which ends its workers
    alarm: Callable[[int], Any] = getattr(signal, "alarm", lambda seconds: None)
    try:
        while True:
            while not connection.poll(_ORPHAN_CHECK):
                if os.getppid() != parent:
                    return
            task, time_limit = connection.recv()
            alarm(int(time_limit) + _GRACE)
            result = function(task)
            alarm(0)
            connection.send(result)
    except (EOFError, OSError):
        return
