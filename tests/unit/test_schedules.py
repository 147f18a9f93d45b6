from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import pytest

from monai_anat.schedules import (
    ConstantSchedule,
    CosineSchedule,
    LinearSchedule,
    Progress,
    StagePhase,
    TurnPhase,
    stage_of,
)

REFERENCE = Path(__file__).parents[1] / "reference"


def at(step: int, max_steps: int, epochs: int) -> Progress:
    return Progress(epoch=step * epochs // max_steps, max_epochs=epochs, step=step, max_steps=max_steps)


@pytest.mark.parametrize(
    "entry", json.loads((REFERENCE / "schedules_cosine.json").read_text()), ids=lambda e: e["name"]
)
def test_cosine_by_step_agrees_with_recorded_values(entry):
    inputs = entry["inputs"]
    schedule = CosineSchedule(inputs["base"], inputs["final"], warmup_epochs=inputs["warmup_epochs"])
    total = inputs["epochs"] * inputs["iters_per_epoch"]
    assert total == entry["expected"]["length"]
    for step, expected in zip(inputs["step_index"], entry["expected"]["value"], strict=True):
        value = schedule(at(step, total, inputs["epochs"]))
        assert value == pytest.approx(expected, rel=2e-9, abs=1e-14)  # recorded with 9 digits


@pytest.mark.parametrize(
    ("name", "file", "first"), [("popar_lr_2000", "schedules_popar", 1), ("adam_v1_lr", "schedules_misc", 0)]
)
def test_cosine_by_epoch_agrees_with_recorded_values(name, file, first):
    entry = next(e for e in json.loads((REFERENCE / f"{file}.json").read_text()) if e["name"] == name)
    inputs = entry["inputs"]
    schedule = CosineSchedule(
        inputs.get("base_lr", inputs.get("lr")),
        warmup_epochs=inputs.get("warmup_epochs", 0),
        by_epoch=True,
        first_epoch=first,
    )
    for epoch, expected in zip(inputs["epoch_index"], entry["expected"]["lr"], strict=True):
        progress = Progress(epoch - first, inputs["epochs"], 7 * (epoch - first), 7 * inputs["epochs"])
        assert schedule(progress) == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_no_epoch_of_a_warm_up_has_rate_zero():
    schedule = CosineSchedule(0.3, warmup_epochs=2, by_epoch=True, first_epoch=0)
    rates = [schedule(Progress(epoch, 6, 7 * epoch, 42)) for epoch in range(6)]
    assert rates[:3] == pytest.approx([0.15, 0.3, 0.3])
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_schedules_clamp_past_the_end():
    assert CosineSchedule(1.0, 0.25)(Progress(9, 5, 90, 50)) == pytest.approx(0.25)
    assert LinearSchedule(1.0, 0.25)(Progress(9, 5, 90, 50)) == pytest.approx(0.25)
    assert ConstantSchedule(3.0)(Progress(9, 5, 90, 50)) == 3.0


def test_cosine_falls_after_the_warmup_and_rises_in_it():
    schedule = CosineSchedule(1.0, 0.0, warmup_epochs=2)
    values = [schedule(at(step, 100, 10)) for step in range(100)]
    assert values[0] == 0.0
    assert values[19] == values[20] == 1.0
    assert all(a <= b for a, b in pairwise(values[:20]))
    assert all(a > b for a, b in pairwise(values[20:]))
    assert math.isclose(values[60], 0.5)


@pytest.mark.parametrize("epochs", [1, 3, 5])
def test_a_run_no_longer_than_its_warmup_by_epoch_only_rises(epochs):
    schedule = CosineSchedule(1.0, warmup_epochs=5, by_epoch=True)
    values = [schedule(Progress(epoch, epochs, 7 * epoch, 7 * epochs)) for epoch in range(epochs)]
    assert values == pytest.approx([(epoch + 1) / 5 for epoch in range(epochs)])


def test_progress_fractions():
    progress = Progress(1, 4, 25, 100, stage=1, stage_step=3, stage_steps=4)
    assert progress.fraction == 0.25
    assert progress.stage_fraction == 0.75
    assert Progress(0, 0, 0, 0).fraction == 0.0
    assert Progress(1, 4, 25, 100).stage_fraction == 0.25


def test_bad_arguments_say_what_to_change():
    with pytest.raises(ValueError, match="warmup_epochs must not be negative"):
        CosineSchedule(1.0, warmup_epochs=-1)
    with pytest.raises(ValueError, match="warmup_start works by step only"):
        CosineSchedule(1.0, warmup_start=0.1, by_epoch=True)


def test_objectives_take_turns():
    assert [TurnPhase(4)(count) for count in range(6)] == [0, 1, 2, 3, 0, 1]
    with pytest.raises(ValueError, match="turns must be at least 1, got 0"):
        TurnPhase(0)


def test_a_stage_is_a_run_of_its_own_where_asked():
    schedule, restarted = (CosineSchedule(1.0, per_stage=per_stage) for per_stage in (False, True))
    start = Progress(4, 6, 40, 60, stage=1, stage_step=0, stage_steps=20)  # 10 steps an epoch, stages of 4 and 2 epochs
    middle = Progress(5, 6, 50, 60, stage=1, stage_step=10, stage_steps=20)
    assert restarted(start) == 1.0
    assert math.isclose(restarted(middle), 0.5)
    assert math.isclose(schedule(middle), CosineSchedule(1.0)(Progress(5, 6, 50, 60)))
    assert middle.of_stage == Progress(1, 2, 10, 20, stage=1, stage_step=10, stage_steps=20)
    whole = Progress(1, 4, 25, 100)
    assert whole.of_stage is whole
    assert restarted(whole) == schedule(whole)


def test_the_phase_is_the_stage_of_the_epoch():
    phase = StagePhase((2, 1))
    assert [phase(epoch) for epoch in range(5)] == [0, 0, 1, 1, 1]
    assert stage_of(7, ()) == (0, 0)
