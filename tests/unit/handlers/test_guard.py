from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Events

from monai_anat.handlers import NonFiniteGuard


def test_the_samples_of_a_skipped_step_are_recorded(make_trainer, items, tmp_path, caplog):
    items[5]["view_1"] = torch.full((1, 4, 4), float("inf"))
    make_trainer([NonFiniteGuard(tmp_path, every=2)], items, epochs=3).run()
    lines = [json.loads(line) for line in (tmp_path / "nonfinite.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    assert all(5 in line["samples"] and len(line["samples"]) == 4 for line in lines)
    assert caplog.text.count("was skipped: its gradients were not finite") == 3


def test_the_run_stops_after_too_many_skipped_steps_in_a_row(make_trainer, items, tmp_path):
    for item in items:
        item["view_2"] = torch.full((1, 4, 4), float("nan"))
    trainer = make_trainer([NonFiniteGuard(tmp_path, stop_after=4, every=1)], items, epochs=5)
    with pytest.raises(FloatingPointError, match=r"gradients of 4 steps in a row .*up to step 4.*lower learning rate"):
        trainer.run()
    assert trainer.state.iteration == 4


def test_a_finite_run_writes_nothing(make_trainer, tmp_path):
    make_trainer([NonFiniteGuard(tmp_path)]).run()
    assert not (tmp_path / "nonfinite.jsonl").exists()


def test_a_resumed_run_repeats_no_line(make_trainer, items, tmp_path):
    items[5]["view_1"] = torch.full((1, 4, 4), float("nan"))
    path = tmp_path / "nonfinite.jsonl"
    for _ in range(2):  # the second run repeats every step of the first
        make_trainer([NonFiniteGuard(tmp_path)], items, epochs=2).run()
    steps = [json.loads(line)["step"] for line in path.read_text().splitlines()]
    assert len(steps) == len(set(steps)) == 2


@pytest.mark.parametrize("stop", [3, 5])
def test_steps_in_a_row_are_counted_across_a_resume(make_trainer, items, tmp_path, stop):
    for item in items:
        item["view_2"] = torch.full((1, 4, 4), float("nan"))

    def trainer():
        return make_trainer([NonFiniteGuard(tmp_path, stop_after=7, every=2)], items, epochs=5)

    first, second = trainer(), trainer()
    first.add_event_handler(Events.ITERATION_COMPLETED(once=stop), lambda e: e.terminate())
    first.run()
    second.load_training_state(first.training_state())
    with pytest.raises(FloatingPointError, match="gradients of 7 steps in a row"):
        second.run()
    steps = [json.loads(line)["step"] for line in (tmp_path / "nonfinite.jsonl").read_text().splitlines()]
    assert steps == list(range(1, 8))
