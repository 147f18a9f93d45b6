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
        value = schedule(Progress(epoch - first, inputs["epochs"], 7 * (epoch - first), 7 * inputs["epochs"]))
        if expected == 0:  # the last epoch of the released code stands still
            assert 0 < value < 1e-6
        else:
            assert value == pytest.approx(expected, rel=1e-8, abs=1e-12)


def test_no_epoch_of_a_warm_up_has_rate_zero():
    schedule = CosineSchedule(0.3, warmup_epochs=2, by_epoch=True, first_epoch=0)
    rates = [schedule(Progress(epoch, 100, 7 * epoch, 700)) for epoch in range(100)]
    assert rates[:3] == pytest.approx([0.15, 0.3, 0.3])
    assert rates[3:] == sorted(rates[3:], reverse=True)


def test_schedules_clamp_past_the_end():
    assert CosineSchedule(1.0, 0.25)(Progress(9, 5, 90, 50)) == pytest.approx(0.25)
    assert LinearSchedule(1.0, 0.25)(Progress(9, 5, 90, 50)) == pytest.approx(0.25)
    assert ConstantSchedule(3.0)(Progress(9, 5, 90, 50)) == 3.0


def test_cosine_falls_after_the_warmup_and_rises_in_it():
    schedule = CosineSchedule(1.0, 0.0, warmup_epochs=2, max_warmup=1.0)
    values = [schedule(at(step, 100, 10)) for step in range(100)]
    assert values[0] == 0.0
    assert values[19] == values[20] == 1.0
    assert all(a <= b for a, b in pairwise(values[:20]))
    assert all(a > b for a, b in pairwise(values[20:]))
    assert math.isclose(values[60], 0.5)


@pytest.mark.parametrize("by_epoch", [True, False])
@pytest.mark.parametrize("first_epoch", [0, 1])
@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 30, 99, 100, 400])
@pytest.mark.parametrize("warmup_epochs", [0, 2, 5, 20])
def test_a_short_run_trains_at_its_rate(epochs, warmup_epochs, by_epoch, first_epoch):
    schedule = CosineSchedule(2.0, warmup_epochs=warmup_epochs, by_epoch=by_epoch, first_epoch=first_epoch)
    steps = 101 * epochs
    rates = [schedule(at(step, steps, epochs)) for step in range(steps)]
    assert 0.4 * 2.0 <= sum(rates) / steps <= 0.56 * 2.0
    assert rates[-1] > 0
    assert max(rates) >= 0.99 * 2.0
    warmup = int(min(warmup_epochs * 101, 0.1 * steps))
    assert rates[warmup + 101 :] == sorted(rates[warmup + 101 :], reverse=True)


@pytest.mark.parametrize("steps", [1, 2, 7, 40])
def test_a_run_of_a_few_steps_has_a_rate_in_each(steps):
    for first_epoch in (0, 1):
        schedule = CosineSchedule(2.0, warmup_epochs=5, by_epoch=True, first_epoch=first_epoch)
        rates = [schedule(at(step, steps, 1)) for step in range(steps)]
        assert min(rates) > 0
        assert sum(rates) / steps >= 0.4 * 2.0


def test_a_warm_up_is_shortened_in_the_run_or_stage_that_is_too_short_for_it():
    assert CosineSchedule(1.0, warmup_epochs=5).warmup(at(0, 100, 50)) == 5
    assert CosineSchedule(1.0, warmup_epochs=5).warmup(at(0, 100, 10)) == 1
    stage = Progress(4, 30, 40, 300, stage=1, stage_step=0, stage_steps=200)
    assert CosineSchedule(1.0, warmup_epochs=5).warmup(stage) == 3
    assert CosineSchedule(1.0, warmup_epochs=5, per_stage=True).warmup(stage) == 2


def test_progress_fractions():
    progress = Progress(1, 4, 25, 100, stage=1, stage_step=3, stage_steps=4)
    assert progress.fraction == 0.25
    assert progress.stage_fraction == 0.75
    assert Progress(0, 0, 0, 0).fraction == 0.0
    assert Progress(1, 4, 25, 100).stage_fraction == 0.25


def test_bad_arguments_say_what_to_change():
    with pytest.raises(ValueError, match="warmup_epochs must not be negative"):
        CosineSchedule(1.0, warmup_epochs=-1)
    with pytest.raises(ValueError, match=r"max_warmup must be in \(0, 1\], got 0"):
        CosineSchedule(1.0, max_warmup=0)
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
