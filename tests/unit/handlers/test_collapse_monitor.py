from __future__ import annotations

import torch

from monai_anat.handlers import CollapseMonitor


def test_rank_and_spread_of_a_healthy_encoder(make_trainer, caplog):
    trainer = make_trainer([CollapseMonitor(every=1, images=8)])
    trainer.run()
    assert trainer.state.metrics["effective_rank"] > 2
    assert trainer.state.metrics["feature_spread"] > 0.1
    assert "collapsing" not in caplog.text
    assert trainer.method.student.training
    assert not trainer.method.teacher.training


def test_a_constant_encoder_is_flagged(make_trainer, caplog):
    trainer = make_trainer([CollapseMonitor(every=1)], epochs=1, schedules={"lr": lambda progress: 0.0})
    torch.nn.init.zeros_(trainer.method.student.conv.weight)
    trainer.run()
    assert trainer.state.metrics["effective_rank"] < 1.5
    assert "(< 2.0): the encoder may be collapsing" in caplog.text


def test_watching_changes_nothing(make_trainer):
    plain, watched = make_trainer(), make_trainer([CollapseMonitor(every=1)])
    plain.run()
    watched.run()
    for a, b in zip(plain.method.state_dict().values(), watched.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)
