from __future__ import annotations

import time
from types import SimpleNamespace

from monai_anat.engines.stall_watch import StallWatch


def test_a_run_without_progress_is_reported(caplog):
    run = SimpleNamespace(rank=1, world_size=2, state=SimpleNamespace(iteration=7))
    with StallWatch(run, seconds=0.1) as watch:
        assert watch.is_active
        time.sleep(0.4)
    assert "Process 1 has been at step 7 for" in caplog.text
    assert "another of the 2 processes" in caplog.text
    assert len(caplog.records) == 2, "the wait doubles from warning to warning"


def test_progress_is_not_reported(caplog):
    run = SimpleNamespace(rank=0, world_size=2, state=SimpleNamespace(iteration=0))
    with StallWatch(run, seconds=0.4):
        for _ in range(10):
            time.sleep(0.05)
            run.state.iteration += 1
    assert not caplog.records


def test_one_process_is_not_watched():
    with StallWatch(SimpleNamespace(rank=0, world_size=1, state=SimpleNamespace(iteration=0))) as watch:
        assert not watch.is_active
