from __future__ import annotations

import time

import pytest
import torch
from ignite.engine import Events
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monai_anat.handlers import EncoderProbe, TrainingLog
from monai_anat.visualize import picture_panels


class Probe:
    def __init__(self, seconds: float = 0.0, picture: bool = True) -> None:
        self.modes: list[bool] = []
        self.seconds = seconds
        self.picture = picture

    def __call__(self, encoder):
        self.modes.append(encoder.training)
        time.sleep(self.seconds)
        return {"error": 1.0 / len(self.modes)}, picture_panels(1, 1)[0] if self.picture else None


def test_every_few_epochs_and_at_the_end(make_trainer):
    probe, seen = Probe(picture=False), []
    trainer = make_trainer([EncoderProbe(probe, every=2, max_share=1.0)], epochs=5)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda e: seen.append("probe_error" in e.state.metrics))
    trainer.run()
    assert seen == [False, True, False, True, True]
    assert probe.modes == [False] * 3  # in evaluation
    assert trainer.method.student.training


def test_the_run_is_the_same_with_and_without(make_trainer):
    plain, probed = make_trainer([], epochs=2), make_trainer([EncoderProbe(Probe(), max_share=1.0)], epochs=2)
    plain.run()
    probed.run()
    for name, value in plain.method.state_dict().items():
        assert torch.equal(value, probed.method.state_dict()[name]), name


def test_an_expensive_probe_runs_first_and_last_only(make_trainer):
    probe = Probe(seconds=0.3, picture=False)
    handler = EncoderProbe(probe, max_share=0.05)
    make_trainer([handler], epochs=6).run()
    assert len(probe.modes) == 2  # the first, whose cost is unknown, and the last
    assert handler.seconds >= 0.6


def test_scores_and_pictures_are_written(make_trainer, tmp_path):
    handlers = [EncoderProbe(Probe(), max_share=1.0), TrainingLog(tmp_path, every=1, progress_bar=False)]
    make_trainer(handlers, epochs=2).run()
    assert '"probe_error": 0.5' in (tmp_path / "metrics.jsonl").read_text()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert "probe_error" in events.Tags()["scalars"]
    assert "probe_cases" in events.Tags()["images"]


@pytest.mark.parametrize(("options", "what"), [({"every": 0}, "every=0"), ({"max_share": 0.0}, "max_share=0.0")])
def test_impossible_settings_are_refused(options, what):
    with pytest.raises(ValueError, match=what):
        EncoderProbe(Probe(), **options)


def test_the_time_of_the_run_and_of_its_probes_survives_a_resume(make_trainer):
    first, second = (EncoderProbe(Probe(seconds=0.05, picture=False), max_share=0.05) for _ in range(2))
    make_trainer([first]).run()
    second.load_state_dict(first.state_dict())
    assert (second.seconds, second._longest) == (first.seconds, first._longest)
    trainer = make_trainer([second], epochs=4)
    trainer.state.iteration, trainer.state.epoch = 6, 2
    trainer.run()
    assert second.probe.modes == [False], "a resumed run has no new first probe"
