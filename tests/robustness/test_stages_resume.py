"""Runs of several stages resume in the right stage, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from ignite.engine import Events
from method_cases import load_cases

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import SSLTrainer, build_optimizers
from monai_anat.handlers import TeacherEMA
from monai_anat.schedules import CosineSchedule, StagePhase

#: epochs of two steps: crops of two granularities, with frozen prototypes at first, then wholes with their parts
STAGE_EPOCHS = (1, 1, 2, 1)
STEPS = 2 * sum(STAGE_EPOCHS)


def trainer_of(workers: int = 0) -> SSLTrainer:
    case = load_cases("AdamV2Method")["AdamV2Method-frozen"]
    torch.manual_seed(0)
    method = case.method()
    dataset = SeededDataset(
        [{"image": case.image(seed)} for seed in range(9)], case.views(), seed=3, phase=StagePhase(STAGE_EPOCHS)
    )
    return SSLTrainer(
        device="cpu",
        max_epochs=sum(STAGE_EPOCHS),
        stage_epochs=STAGE_EPOCHS,
        train_data_loader=resumable_loader(dataset, batch_size=4, seed=3, num_workers=workers),
        method=method,
        optimizers=build_optimizers(method, "adamw", lr=1e-3, weight_decay=0.04),
        schedules={"lr": CosineSchedule(1e-3), "weight_decay": CosineSchedule(0.04, 0.4)},
        seed=3,
        precision="fp32",
        clip_norm=3.0,
        clip_each=True,
        train_handlers=[TeacherEMA(CosineSchedule(0.9, 1.0))],
    )


def run(trainer: SSLTrainer, until: int = STEPS) -> dict[int, dict[str, float]]:
    """Train to a step; return the terms of every step."""
    lines: dict[int, dict[str, float]] = {}

    def record(engine: Any) -> None:
        lines[engine.state.iteration] = {name: float(value) for name, value in engine.state.output[0].items()}
        if engine.state.iteration == until:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, record)
    trainer.run()
    return lines


@pytest.mark.parametrize(("cut", "workers"), [(1, 0), (4, 2), (7, 0)], ids=["within", "between", "later"])
def test_an_interrupted_run_equals_an_uninterrupted_one(cut: int, workers: int) -> None:
    straight = trainer_of()
    expected = run(straight)
    first = trainer_of(workers)
    before = run(first, cut)
    second = trainer_of(workers)
    second.load_training_state(copy.deepcopy(first.training_state()))
    assert before | run(second) == expected
    assert [("composability" in expected[step]) for step in range(1, STEPS + 1)] == [False] * 4 + [True] * 6
    one, other = straight.method.state_dict(), second.method.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
