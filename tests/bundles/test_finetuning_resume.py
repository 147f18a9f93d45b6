"""Fine-tuning bundles resume an interrupted training bit for bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigWorkflow
from monai.optimizers import WarmupCosineSchedule

from monai_anat.networks import ViTBackbone, save_encoder

BUNDLES = Path(__file__).parents[2] / "bundles"
SETTINGS: dict[str, dict[str, Any]] = {
    "cxr_lung_segmentation": {"shots": 4, "val_interval": 2, "batch_size": 2, "warmup_epochs": 1},
    "cxr_classification": {"label_fraction": 0.2, "batch_size": 4, "warmup_epochs": 1},
}

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    backbone = ViTBackbone(image_size=32, patch_size=8, embed_dim=24, depth=4, num_heads=2)
    return save_encoder(backbone, tmp_path_factory.mktemp("encoder"), image_size=32, mean=0.4, std=0.2)


def settings(name: str, folder: Path, encoder: Path, workers: int, epochs: int) -> dict[str, Any]:
    fixed = {"max_epochs": epochs, "num_workers": workers, "finetune_model_path": str(encoder)}
    return {**SETTINGS[name], **fixed, "bundle_root": str(folder)}


def files(name: str) -> list[str]:
    return [str(BUNDLES / name / "configs" / f"{config}.json") for config in ("train", "cpu_demo")]


def train(name: str, folder: Path, encoder: Path, stop: int | None = None, workers: int = 0) -> None:
    """Train or resume in this process; ``stop`` ends it with an error after that many steps."""
    workflow = ConfigWorkflow(
        files(name), workflow_type="train", logging_file=False, **settings(name, folder, encoder, workers, 4)
    )
    workflow.initialize()
    if stop is None:
        workflow.run()
        return
    trainer = workflow.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=stop), fail)
    with pytest.raises(RuntimeError):
        workflow.run()


def fail() -> None:
    raise ZeroDivisionError


def outcome(folder: Path) -> tuple[dict[str, torch.Tensor], list[dict[str, Any]]]:
    lines = (folder / "out" / "metrics.jsonl").read_text().splitlines()
    state = torch.load(folder / "models" / "model.pt", weights_only=True)
    return state, [json.loads(line) for line in lines]


def check_equal(one: Path, other: Path) -> None:
    (state, lines), (state_2, lines_2) = outcome(one), outcome(other)
    assert lines == lines_2
    assert state.keys() == state_2.keys()
    assert all(torch.equal(value, state_2[name]) for name, value in state.items())


@pytest.mark.parametrize("name", SETTINGS)
def test_an_interrupted_training_equals_a_whole_one(name, tmp_path, encoder) -> None:
    train(name, tmp_path / "whole", encoder)
    train(name, tmp_path / "cut", encoder, stop=5)
    assert not (tmp_path / "cut" / "models").exists(), "a failed training publishes nothing"
    assert list((tmp_path / "cut" / "out" / "checkpoints").glob("checkpoint_*.pt"))
    train(name, tmp_path / "cut", encoder)
    check_equal(tmp_path / "whole", tmp_path / "cut")
    assert not (tmp_path / "cut" / "out" / "checkpoints").exists(), "the next training starts anew"


@pytest.mark.parametrize("epochs", [2, 5, 20])
@pytest.mark.parametrize("name", SETTINGS)
def test_short_trainings_leave_their_warm_up(name, epochs) -> None:
    config = json.loads((BUNDLES / name / "configs" / "train.json").read_text())
    warmup = eval(
        config["lr_scheduler"]["warmup_steps"][1:].replace("@", ""),
        {"warmup_epochs": config["warmup_epochs"], "max_epochs": epochs},
    )
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    multiplier = config["lr_scheduler"]["warmup_multiplier"]
    schedule = WarmupCosineSchedule(optimizer, warmup, epochs, warmup_multiplier=multiplier)
    rates = [schedule.lr_lambda(epoch) for epoch in range(epochs)]
    assert min(rates) > 0 and sum(rates) / epochs >= 0.4


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("name", SETTINGS)
def test_a_killed_process_is_resumed(name, workers, tmp_path, encoder) -> None:
    def start(folder: Path) -> subprocess.Popen[bytes]:
        words = [f"--{key}={value}" for key, value in settings(name, folder, encoder, workers, 8).items()]
        command = [sys.executable, "-m", "monai.bundle", "run", f"--config_file={files(name)}", *words]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert start(tmp_path / "whole").wait() == 0
    process = start(tmp_path / "cut")
    checkpoints = tmp_path / "cut" / "out" / "checkpoints"
    while process.poll() is None and len(list(checkpoints.glob("checkpoint_*.pt"))) < 2:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() != 0, "killed before its end"
    assert start(tmp_path / "cut").wait() == 0
    check_equal(tmp_path / "whole", tmp_path / "cut")
