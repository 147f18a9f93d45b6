from __future__ import annotations

import json

import pytest
import torch
from ignite.engine import Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_anat.handlers import Checkpointer, CollapseMonitor, TrainingLog
from monai_anat.handlers.training_log import pictures_of_views


def lines_of(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_lines_hold_means_rates_and_time_left(make_trainer, tmp_path):
    trainer = make_trainer([CollapseMonitor(every=1), TrainingLog(tmp_path, every=2, progress_bar=False)])
    losses = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    trainer.method.metrics = lambda: {"words_in_use": torch.tensor(7.0)}
    trainer.run()
    lines = lines_of(tmp_path)
    assert [line["step"] for line in lines] == [2, 3, 4, 6, 6]  # the last one holds the metrics of the epoch
    assert lines[0]["loss"] == pytest.approx((losses[0] + losses[1]) / 2, abs=1e-5)
    assert {"match", "grad_norm", "lr", "samples_per_second", "data_wait_share", "seconds_left"} <= lines[0].keys()
    assert {"effective_rank", "feature_spread"} <= lines[1].keys()
    assert lines[1]["words_in_use"] == 7
    assert 0 <= lines[0]["data_wait_share"] <= 1
    assert lines[-2]["seconds_left"] == 0


def test_tensorboard_has_scalars_and_pictures(make_trainer, tmp_path):
    make_trainer([TrainingLog(tmp_path, every=1)]).run()
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    assert {"view_1", "view_2"} <= {tag.split("/")[0] for tag in events.Tags()["images"]}


def test_a_resumed_run_repeats_no_line(make_trainer, tmp_path):
    def run(stop=None):
        trainer = make_trainer([TrainingLog(tmp_path, every=1, tensorboard=False, progress_bar=False)])
        saver = Checkpointer(tmp_path)
        saver.resume(trainer)
        if stop:
            trainer.add_event_handler(
                Events.ITERATION_COMPLETED, lambda e: e.terminate() if e.state.iteration == stop else 0
            )
        else:
            saver.attach(trainer)
        if stop == 2:
            saver.folder.mkdir(exist_ok=True)
            trainer.add_event_handler(
                Events.ITERATION_COMPLETED, lambda e: saver.save(e) if e.state.iteration == 1 else 0
            )
        trainer.run()

    run(stop=2)
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2]
    run()
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_every_handler_is_called_on_a_failure(make_trainer, tmp_path, caplog):
    log = TrainingLog(tmp_path, every=10)
    trainer = make_trainer([log])
    Checkpointer(tmp_path).attach(trainer)

    def fail(engine):
        if engine.state.iteration == 2:
            raise RuntimeError("worker died")

    trainer.add_event_handler(Events.ITERATION_STARTED, fail)
    with pytest.raises(RuntimeError, match="worker died"):
        trainer.run()
    assert caplog.text.count("Stopped at step 2 of 6: no checkpoint was written yet") == 1
    assert log._writer is None
    assert log._bar is None


@pytest.mark.parametrize("failing", [1, 3])
def test_an_error_after_a_line_is_the_one_that_is_raised(make_trainer, tmp_path, failing):
    trainer = make_trainer([TrainingLog(tmp_path, every=1, progress_bar=False)])

    def fail(engine):
        if engine.state.iteration == failing:
            raise MemoryError("a micro-batch does not fit")

    trainer.add_event_handler(Events.ITERATION_STARTED, fail)
    with pytest.raises(MemoryError, match="does not fit"):
        trainer.run()
    if failing > 1:
        assert [line["step"] for line in lines_of(tmp_path)] == [1, 2]


def test_a_step_that_failed_is_in_no_mean(make_trainer, tmp_path):
    trainer = make_trainer([TrainingLog(tmp_path, every=10, progress_bar=False)])
    losses = []

    def fail(engine):
        if engine.state.iteration == 3:
            raise RuntimeError("worker died")

    trainer.add_event_handler(Events.ITERATION_STARTED, fail)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    with pytest.raises(RuntimeError, match="worker died"):
        trainer.run()
    (line,) = lines_of(tmp_path)
    assert line["step"] == 2
    assert line["loss"] == pytest.approx(sum(losses) / 2, rel=1e-5)


def test_a_term_is_averaged_over_the_steps_that_had_it(make_trainer, tmp_path):
    trainer = make_trainer([], epochs=1)
    log = TrainingLog(tmp_path, every=3, progress_bar=False)

    def rename(engine):  # objectives that take turns
        if engine.state.iteration == 2:
            engine.state.output = [{"loss": torch.tensor(4.0), "order": torch.tensor(4.0)}]
        else:
            engine.state.output = [{"loss": torch.tensor(1.0), "match": torch.tensor(1.0)}]

    trainer.add_event_handler(Events.ITERATION_COMPLETED, rename)
    log.attach(trainer)
    trainer.run()
    (line,) = lines_of(tmp_path)
    assert (line["loss"], line["order"], line["match"]) == (2.0, 4.0, 1.0)


def test_small_numbers_keep_their_digits(make_trainer, tmp_path):
    trainer = make_trainer([TrainingLog(tmp_path, every=1, progress_bar=False)])
    trainer.optimizers["main"].param_groups[0]["lr"] = 1.2345e-8
    trainer.run()
    assert lines_of(tmp_path)[0]["lr"] == 1.2345e-8


def test_an_incomplete_line_of_a_power_cut_is_removed(make_trainer, tmp_path):
    log = TrainingLog(tmp_path, every=1, tensorboard=False, progress_bar=False)
    trainer = make_trainer([log])
    saver = Checkpointer(tmp_path)
    saver.attach(trainer)
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: e.terminate() if e.state.iteration == 5 else None)
    trainer.run()
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"step": 2, "lo\x00\xff')
    trainer = make_trainer([log])
    saver.resume(trainer)
    trainer.run()
    assert [line["step"] for line in lines_of(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_an_interrupted_run_logs_what_an_uninterrupted_one_logs(make_trainer, tmp_path):
    """Means, effective rank and spread, although lines, checkpoints and embeddings come at different steps."""

    def run(folder, stop=None):
        handlers = [CollapseMonitor(every=2, images=8), TrainingLog(folder, every=5, progress_bar=False)]
        trainer = make_trainer(handlers, epochs=4)
        saver = Checkpointer(folder / "checkpoints", every_steps=2)
        saver.resume(trainer)
        saver.attach(trainer)

        def fail(engine):
            raise RuntimeError("killed")

        if stop:
            trainer.add_event_handler(Events.ITERATION_STARTED(once=stop), fail)
            with pytest.raises(RuntimeError, match="killed"):
                trainer.run()
        else:
            trainer.run()

    run(tmp_path / "whole")
    for stop in (2, 5, 8, 11):
        run(tmp_path / "cut", stop)
        assert ("partial" in lines_of(tmp_path / "cut")[-1]) == (stop != 11)  # step 10 ends a line
    run(tmp_path / "cut")
    clocks = {"samples_per_second", "data_wait_share", "seconds_left"}
    whole, cut = (
        [{key: value for key, value in line.items() if key not in clocks} for line in lines_of(tmp_path / name)]
        for name in ("whole", "cut")
    )
    assert whole == cut
    assert sum("effective_rank" in line for line in whole) == 4


def test_pictures_of_a_volume_show_its_middle_slice():
    volume = torch.zeros(2, 1, 3, 3, 5)
    volume[..., 2] = torch.arange(9.0).view(3, 3)
    pictures = pictures_of_views({"view_1": volume, "index": torch.arange(2)})
    assert list(pictures) == ["view_1"]
    assert torch.allclose(pictures["view_1"][1, 0], torch.arange(9.0).view(3, 3) / 8)
