from __future__ import annotations

import errno
import logging

import pytest
import torch
from ignite.engine import Events

from monai_anat.handlers import Checkpointer, TeacherEMA, checkpoint
from monai_anat.handlers.checkpoint import save_atomically


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


def test_intervals_must_be_positive(tmp_path):
    with pytest.raises(ValueError, match="every_steps must be at least 1, got 0"):
        Checkpointer(tmp_path, every_steps=0)
    with pytest.raises(ValueError, match="every_epochs must be at least 1, got -1"):
        Checkpointer(tmp_path, every_epochs=-1)


def test_an_older_checkpoint_does_not_start_beside_newer_ones(make_trainer, tmp_path):
    run(make_trainer, tmp_path, stop=2, every_steps=1)
    older = tmp_path / "checkpoint_00000001.pt"
    with pytest.raises(ValueError, match=r"newer checkpoints than step 1, .* checkpoint_00000002.pt; move them away"):
        Checkpointer(tmp_path).resume(make_trainer(), older)
    (tmp_path / "checkpoint_00000002.pt").unlink()
    _, losses = run(make_trainer, tmp_path, source=older)
    assert len(losses) == 5


def test_the_last_step_of_an_epoch_is_saved_with_the_measures_of_the_epoch(make_trainer, tmp_path):
    trainer = make_trainer()
    saver = Checkpointer(tmp_path, every_steps=1, every_epochs=5)
    saver.attach(trainer)
    newest = []

    def look(engine):
        newest.append(saver.files()[-1].name)

    trainer.add_event_handler(Events.ITERATION_COMPLETED, look)
    trainer.add_event_handler(Events.EPOCH_COMPLETED, look)
    trainer.run()
    steps = [int(name[11:19]) for name in newest]
    assert steps == [1, 2, 2, 3, 4, 5, 5, 6]


def test_half_files_of_a_killed_run_are_removed(make_trainer, tmp_path):
    half = tmp_path / ".checkpoint_00000001.pt.123.tmp"
    half.write_bytes(b"half")
    Checkpointer(tmp_path).attach(make_trainer())
    assert not half.exists()


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04", bytes(range(256))])
def test_a_file_of_anything_is_no_checkpoint(make_trainer, tmp_path, content):
    path = tmp_path / "checkpoint_00000001.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="cannot be read"):
        Checkpointer(tmp_path / "new").resume(make_trainer(), path)


def test_a_folder_that_cannot_be_written_does_not_hide_a_damaged_file(make_trainer, tmp_path, monkeypatch, caplog):
    (tmp_path / "checkpoint_00000001.pt").write_bytes(b"hello")

    def refuse(self, target):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(type(tmp_path), "rename", refuse)
    Checkpointer(tmp_path).resume(make_trainer())
    assert "cannot be read" in caplog.text


def test_all_processes_take_the_checkpoint_that_the_first_one_chose(make_trainer, tmp_path, monkeypatch):
    run(make_trainer, tmp_path, stop=2, every_steps=1)
    trainer = make_trainer()
    trainer.rank = 1
    chosen = tmp_path / "checkpoint_00000001.pt"  # the newer one was damaged for the first process
    monkeypatch.setattr(checkpoint, "from_first_process", lambda value: chosen)
    Checkpointer(tmp_path).resume(trainer)
    assert trainer.state.iteration == 1
