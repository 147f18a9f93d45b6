"""Killed and stopped runs of a pre-training bundle, as real processes: they resume bit for bit."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from monai_anat.files import FolderLock

BUNDLE = Path(__file__).parents[2] / "bundles" / "cxr_peac_pretraining"
STEPS = 8
#: Swin-B's head counts at a width for a CPU; dropout and drop-path draw random numbers in every step
SMALL = {
    "image_size": 112,
    "cell_size": 16,
    "margin": 2,
    "batch_size": 4,
    "max_epochs": 2,
    "log_every": 1,
    "checkpoint_every_steps": 1,
    "datalist": f"$monai_anat.data.pretraining_datalist()[:{STEPS * 2}]",
    "network_def": {
        "_target_": "monai_anat.networks.SwinBackbone",
        "patch_size": 2,
        "embed_dim": 32,
        "depths": [2, 2, 2, 2],
        "num_heads": [4, 8, 16, 32],
        "drop_path_rate": 0.2,
    },
}
TERMS = ("loss", "order", "restoration", "global_consistency", "local_consistency", "grad_norm")


def start(folder: Path, workers: int, **more: object) -> subprocess.Popen[bytes]:
    folder.mkdir(exist_ok=True)
    (folder / "small.json").write_text(json.dumps({**SMALL, **more}))
    files = [str(BUNDLE / "configs" / name) for name in ("train.json", "cpu_demo.json")] + [str(folder / "small.json")]
    command = [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", str(files)]
    command += ["--bundle_root", str(BUNDLE), "--output_dir", str(folder), "--encoder_dir", str(folder / "encoder")]
    command += ["--num_workers", str(workers), "--logging_file", str(BUNDLE / "configs" / "logging.conf")]
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OMP_WAIT_POLICY": "passive"}
    with (folder / "log.txt").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment, start_new_session=True)


def log_of(folder: Path) -> str:
    return (folder / "log.txt").read_text()[-3000:]


def lines_of(folder: Path) -> list[dict]:
    path = folder / "metrics.jsonl"
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines() if line.endswith("}")]


def wait_for_step(process: subprocess.Popen[bytes], folder: Path, step: int) -> None:
    while process.poll() is None and not any(line["step"] >= step for line in lines_of(folder)):
        time.sleep(0.02)
    assert process.poll() is None, log_of(folder)


def run_until(folder: Path, workers: int, step: int) -> None:
    """Start, and kill everything once the step is logged."""
    process = start(folder, workers)
    wait_for_step(process, folder, step)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def finish(folder: Path, workers: int) -> None:
    process = start(folder, workers)
    assert process.wait(timeout=500) == 0, log_of(folder)


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("straight") / "run"
    finish(folder, 0)
    return folder


def check_equal(straight: Path, cut: Path) -> None:
    expected = {line["step"]: [line[t] for t in TERMS] for line in lines_of(straight) if "loss" in line}
    resumed = {line["step"]: [line[t] for t in TERMS] for line in lines_of(cut) if "loss" in line}
    assert list(expected) == list(range(1, STEPS + 1))
    assert resumed == expected
    name = f"checkpoint_{STEPS:08d}.pt"
    one, other = (torch.load(f / "checkpoints" / name, weights_only=True) for f in (straight, cut))
    assert one["method"].keys() == other["method"].keys()
    assert all(torch.equal(one["method"][key], other["method"][key]) for key in one["method"])
    moments = [state["optimizers"]["main"]["state"] for state in (one, other)]
    assert all(torch.equal(moments[0][p][k], moments[1][p][k]) for p in moments[0] for k in moments[0][p])
    encoders = [(folder / "encoder" / "model.safetensors").read_bytes() for folder in (straight, cut)]
    assert encoders[0] == encoders[1]


@pytest.mark.parametrize(
    ("workers", "kills"),
    [(2, 1), pytest.param(0, 5, marks=pytest.mark.slow), pytest.param(2, 5, marks=pytest.mark.slow)],
)
def test_a_killed_run_equals_an_uninterrupted_one(tmp_path, straight, workers, kills):
    cut = tmp_path / "cut"
    for step in sorted(random.Random(workers * 10 + kills).sample(range(1, STEPS), kills)):
        run_until(cut, workers, step)
    finish(cut, workers)
    check_equal(straight, cut)


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_stopped_run_saves_its_state_and_resumes(tmp_path, straight, number):
    """The signal goes to the process group, as a terminal sends Ctrl-C."""
    cut = tmp_path / "cut"
    process = start(cut, 2, checkpoint_every_steps=100)
    wait_for_step(process, cut, 1)
    os.killpg(process.pid, number)
    code = process.wait(timeout=200)
    text = (cut / "log.txt").read_text()
    assert code in (130, 128 + number, -number), text[-3000:]
    assert f"{number.name} received: stopping after the current step" in text
    assert "the last checkpoint is" in text
    assert len(list((cut / "checkpoints").glob("checkpoint_*.pt"))) == 1
    finish(cut, 2)
    check_equal(straight, cut)


def test_a_folder_of_another_run_is_refused(tmp_path):
    folder = tmp_path / "run"
    with FolderLock(folder, "another run"):
        process = start(folder, 0)
        assert process.wait(timeout=200) == 1
    assert f"is in use by another run, process {os.getpid()} on host" in log_of(folder)
    assert not (folder / "metrics.jsonl").exists()
    assert not (folder / "checkpoints").exists() or not list((folder / "checkpoints").glob("*.pt"))
