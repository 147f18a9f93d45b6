from __future__ import annotations

import errno
import logging

import pytest
import torch
from ignite.engine import Events

from monai_anat.handlers import Checkpointer, TeacherEMA, save_atomically


def run(make_trainer, folder, epochs=2, stop=None, source="auto", seed=0, **options):
    trainer = make_trainer([TeacherEMA(0.9)], epochs=epochs, seed=seed)
    saver = Checkpointer(folder, **options)
    saver.resume(trainer, source)
    losses: list[float] = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))
    saver.attach(trainer)
    if stop:
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda e: e.terminate() if e.state.iteration == stop else None
        )
    trainer.run()
    return trainer, losses


@pytest.mark.parametrize("stop", [1, 2, 4])
def test_a_stopped_run_goes_on_bit_for_bit(make_trainer, tmp_path, stop):
    whole, losses = run(make_trainer, tmp_path / "whole")
    run(make_trainer, tmp_path / "cut", stop=stop, every_steps=1)
    rest, rest_losses = run(make_trainer, tmp_path / "cut", every_steps=1)
    assert rest_losses == losses[stop:]
    for a, b in zip(whole.method.state_dict().values(), rest.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_keeps_the_last_ones(make_trainer, tmp_path):
    run(make_trainer, tmp_path, every_steps=1, keep_last=2)
    assert [path.name for path in Checkpointer(tmp_path).files()] == [
        "checkpoint_00000005.pt",
        "checkpoint_00000006.pt",
    ]
    assert not list(tmp_path.glob(".*"))


def test_a_damaged_newest_checkpoint_falls_back(make_trainer, tmp_path, caplog):
    run(make_trainer, tmp_path, stop=2, every_steps=1)
    newest = tmp_path / "checkpoint_00000002.pt"
    newest.write_bytes(newest.read_bytes()[:500])
    trainer = make_trainer()
    Checkpointer(tmp_path).resume(trainer)
    assert trainer.state.iteration == 1
    assert "cannot be read" in caplog.text
    assert newest.with_suffix(".damaged").exists()


def test_other_sources(make_trainer, tmp_path):
    run(make_trainer, tmp_path, stop=2, every_steps=1)
    trainer = make_trainer()
    Checkpointer(tmp_path / "new").resume(trainer, tmp_path / "checkpoint_00000001.pt")
    assert trainer.state.iteration == 1
    Checkpointer(tmp_path / "new").resume(make_trainer(), None)
    with pytest.raises(ValueError, match="holds checkpoints of an earlier run; resume='auto' goes on"):
        Checkpointer(tmp_path).resume(trainer, None)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt is not there"):
        Checkpointer(tmp_path).resume(trainer, tmp_path / "nowhere.pt")


def test_a_checkpoint_of_something_else_is_refused(make_trainer, tmp_path):
    save_atomically({"weights": torch.ones(1)}, tmp_path / "checkpoint_00000001.pt")
    with pytest.raises(ValueError, match="is not a training checkpoint of this version"):
        Checkpointer(tmp_path).resume(make_trainer())
    run(make_trainer, tmp_path / "run", stop=1, every_steps=1)
    trainer = make_trainer()
    trainer.method.student.conv = torch.nn.Conv2d(1, 7, 2, 2)
    with pytest.raises(ValueError, match=r"is of another method or network: .*student.conv.weight"):
        Checkpointer(tmp_path / "run").resume(trainer)
    with pytest.raises(ValueError, match="differ in seed"):
        run(make_trainer, tmp_path / "run", seed=1)


class Hostile:
    def __reduce__(self):
        return print, ("executed",)


def test_a_pickle_that_wants_to_run_code_is_not_loaded(make_trainer, tmp_path, capsys):
    torch.save({"format": 1, "x": Hostile()}, tmp_path / "bad.pt")
    with pytest.raises(ValueError, match="cannot be read"):
        Checkpointer(tmp_path).resume(make_trainer(), tmp_path / "bad.pt")
    assert "executed" not in capsys.readouterr().out


def test_a_full_disk_leaves_the_old_file_and_no_half(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    save_atomically({"step": 1}, path)

    def full(state, file):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"could not write .*checkpoint.pt \(\d+ MiB free there\): .*No space left"):
        save_atomically({"step": 2}, path)
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_an_exception_says_how_to_go_on(make_trainer, tmp_path, caplog):
    trainer = make_trainer()
    Checkpointer(tmp_path, every_steps=1).attach(trainer)

    def fail(engine):
        if engine.state.iteration == 2:
            raise KeyboardInterrupt

    trainer.add_event_handler(Events.ITERATION_STARTED, fail)
    with pytest.raises(KeyboardInterrupt), caplog.at_level(logging.ERROR):
        trainer.run()
    assert "Stopped at step 2 of 6: the last checkpoint is" in caplog.text
    assert "resume='auto' goes on from there" in caplog.text


def test_keep_last_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="keep_last must be at least 1, got 0"):
        Checkpointer(tmp_path, keep_last=0)
