"""Worker processes survive tasks that crash, hang or raise late."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monai_anat.data.preparation.workers import CRASHED, run_in_processes, timed_out


def _work(task: tuple[str, float]) -> str:
    name, seconds = task
    if name == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(seconds)
    return name


def _failed(task: tuple[str, float], reason: str) -> str:
    return f"{task[0]}: {reason}"


@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_tasks_with_crashes_and_hangs_in_their_places(workers: int) -> None:
    tasks = [("a", 0.2), None, ("crash", 0), ("b", 0), ("hang", 60), ("c", 0.1), None, ("crash", 0)]
    started = time.monotonic()
    results = list(run_in_processes(_work, iter(tasks), workers, 1.0, _failed))
    assert time.monotonic() - started < 20
    crash = f"crash: {CRASHED}"
    assert results == ["a", None, crash, "b", f"hang: {timed_out(1.0)}", "c", None, crash]


def test_a_window_bounds_what_waits_for_a_slow_task() -> None:
    asked = []

    def tasks():
        for number in range(100):
            asked.append(number)
            yield (str(number), 0.5 if number == 0 else 0)

    results = run_in_processes(_work, tasks(), 2, 10.0, _failed)
    assert next(results) == "0"
    assert len(asked) <= 17
    assert list(results) == [str(number) for number in range(1, 100)]


def test_workers_end_with_the_generator() -> None:
    results = run_in_processes(_work, iter([("a", 0), ("b", 30)]), 2, 60.0, _failed)
    assert next(results) == "a"
    started = time.monotonic()
    results.close()
    assert time.monotonic() - started < 5


def test_workers_end_when_their_parent_is_killed() -> None:
    script = """
import os, signal, sys, time
from monai_anat.data.preparation import workers
def work(task):
    print(os.getpid(), flush=True)
    return task
results = workers.run_in_processes(work, iter([1, 2, 3]), 2, 60.0, None)
next(results)
time.sleep(0.5)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    pids = {int(word) for word in done.stdout.split()}
    assert pids
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(_runs(pid) for pid in pids):
        time.sleep(0.2)
    assert not any(_runs(pid) for pid in pids)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
