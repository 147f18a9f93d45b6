"""Runs with alternating objectives resume with the right objective, bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events

from monai_anat.data import SeededDataset, resumable_loader
from monai_anat.engines import SSLTrainer, build_optimizers
from monai_anat.handlers import TeacherEMA
from monai_anat.methods import LampsMethod, RandLampsViewsd
from monai_anat.networks import SwinBackbone
from monai_anat.schedules import TurnPhase

STEPS_PER_EPOCH, EPOCHS = 2, 6
OBJECTIVES = ("consistency", "extrapolation", "order", "hierarchy")


def trainer_of(alternate: str, workers: int) -> SSLTrainer:
    torch.manual_seed(0)
    backbone = SwinBackbone(
        embed_dim=8, depths=(1, 1), num_heads=(1, 2), window_size=4, patch_size=2, drop_path_rate=0.2
    )
    method = LampsMethod(
        backbone,
        image_size=16,
        alternate=alternate,
        kept=2,
        local_dim=12,
        num_prototypes=20,
        prototype_hidden=16,
        decoder_depth=1,
        decoder_heads=2,
    )
    images = [np.random.RandomState(seed).randint(0, 256, (1, 26, 27)).astype(np.uint8) for seed in range(9)]
    dataset = SeededDataset(
        [{"image": image} for image in images],
        RandLampsViewsd(grid_size=4, cell_size=4, margin=1, kept=2),
        seed=3,
        phase=TurnPhase(4),
        phase_by=alternate,
    )
    return SSLTrainer(
        device="cpu",
        max_epochs=EPOCHS,
        train_data_loader=resumable_loader(dataset, batch_size=4, seed=3, num_workers=workers),
        method=method,
        optimizers=build_optimizers(method, "adamw", lr=1e-3),
        seed=3,
        precision="fp32",
        clip_norm=0.8,
        clip_each=True,
        train_handlers=[TeacherEMA(0.9)],
    )


def run(trainer: SSLTrainer, until: int) -> dict[int, dict[str, float]]:
    """Train to a step; return the terms of every step."""
    lines: dict[int, dict[str, float]] = {}

    def record(engine: Any) -> None:
        lines[engine.state.iteration] = {name: float(value) for name, value in engine.state.output[0].items()}
        if engine.state.iteration == until:
            engine.terminate()

    trainer.add_event_handler(Events.ITERATION_COMPLETED, record)
    trainer.run()
    return lines


@pytest.mark.parametrize(("alternate", "cut", "workers"), [("step", 5, 2), ("epoch", 4, 0), ("epoch", 7, 2)])
def test_an_interrupted_run_equals_an_uninterrupted_one(alternate: str, cut: int, workers: int) -> None:
    straight = trainer_of(alternate, 0)
    expected = run(straight, STEPS_PER_EPOCH * EPOCHS)
    first = trainer_of(alternate, workers)
    before = run(first, cut)
    second = trainer_of(alternate, workers)
    second.load_training_state(copy.deepcopy(first.training_state()))
    after = run(second, STEPS_PER_EPOCH * EPOCHS)
    assert list(after) == list(range(cut + 1, STEPS_PER_EPOCH * EPOCHS + 1))
    assert before | after == expected
    for step, terms in expected.items():
        turn = (step - 1) // (STEPS_PER_EPOCH if alternate == "epoch" else 1)
        assert ("order" in terms) == (OBJECTIVES[turn % 4] == "order")
    one, other = straight.method.state_dict(), second.method.state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)
