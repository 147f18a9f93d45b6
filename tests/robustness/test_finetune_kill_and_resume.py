"""A fine-tuning run that is killed (SIGKILL) at random times ends as an uninterrupted one, bit for bit."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

UNIT = Path(__file__).parents[1] / "unit" / "engines"
#: a run of test_finetuning.py, slowed down so that kills fall everywhere
SCRIPT = """
import sys, time, warnings
warnings.simplefilter("ignore")
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_finetuning as runs
trainer = runs.build(Path(sys.argv[2]), workers=int(sys.argv[3]))[0]
checkpointer = runs.Checkpointer(Path(sys.argv[2]) / "checkpoints")
checkpointer.resume(trainer)
checkpointer.attach(trainer)
for event in (runs.Events.ITERATION_STARTED, runs.Events.ITERATION_COMPLETED):
    trainer.add_event_handler(event, lambda: time.sleep(float(sys.argv[4])))
print("started", flush=True)
trainer.run()
"""


def start(folder: Path, workers: int, pause: float) -> subprocess.Popen[bytes]:
    words = (str(UNIT), str(folder), str(workers), str(pause))
    folder.mkdir(exist_ok=True)
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, *words], stdout=log, stderr=log)
    while "started" not in (folder / "log.txt").read_text():
        assert process.poll() is None, (folder / "log.txt").read_text()
        time.sleep(0.05)
    return process


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_equals_an_uninterrupted_one(tmp_path, workers):
    straight, cut = tmp_path / "straight", tmp_path / "cut"
    assert start(straight, 0, 0.0).wait(timeout=100) == 0
    draw, kills = random.Random(workers), 0
    for _ in range(3):
        process = start(cut, workers, 0.1)
        time.sleep(draw.uniform(0.5, 2.0))
        kills += process.poll() is None
        process.kill()
        process.wait()
    assert start(cut, workers, 0.0).wait(timeout=100) == 0
    assert kills >= 2
    assert (cut / "metrics.jsonl").read_text() == (straight / "metrics.jsonl").read_text()
    states = [torch.load(f / "checkpoints" / "checkpoint_00000015.pt", weights_only=True) for f in (straight, cut)]
    assert states[0]["parts"] == states[1]["parts"]
    assert states[0]["validator"] == states[1]["validator"]
    assert states[0]["parts"]["best_model"]["best"] is not None
    for key, value in states[0]["network"].items():
        assert torch.equal(value, states[1]["network"][key])
    best = [torch.load(folder / "model.pt", weights_only=True) for folder in (straight, cut)]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])
