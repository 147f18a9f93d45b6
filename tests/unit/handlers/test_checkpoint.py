from __future__ import annotations

import errno
import logging
import os
import signal

import pytest
import torch
from ignite.engine import Events

from monai_anat.files import FolderInUseError, FolderLock
from monai_anat.handlers import Checkpointer, TeacherEMA, checkpoint, checkpoint_file


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
    assert not list(tmp_path.glob(".*.tmp"))


def test_a_damaged_newest_checkpoint_falls_back(make_trainer, tmp_path, caplog):
    run(make_trainer, tmp_path, stop=2, every_steps=1)
    newest = tmp_path / "checkpoint_00000002.pt"
    newest.write_bytes(newest.read_bytes()[:500])
    trainer = make_trainer()
    Checkpointer(tmp_path).resume(trainer)
    assert trainer.state.iteration == 1
    assert "is damaged" in caplog.text
    assert newest.with_suffix(".damaged").exists()


def test_other_sources(make_trainer, tmp_path):
    run(make_trainer, tmp_path, stop=2, every_steps=1)
    trainer = make_trainer()
    Checkpointer(tmp_path / "new").resume(trainer, tmp_path / "checkpoint_00000001.pt")
    assert trainer.state.iteration == 1
    Checkpointer(tmp_path / "new").resume(make_trainer(), None)
    with pytest.raises(ValueError, match="holds checkpoints of an earlier run; use resume='auto' to continue it"):
        Checkpointer(tmp_path).resume(trainer, None)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pt does not exist"):
        Checkpointer(tmp_path).resume(trainer, tmp_path / "nowhere.pt")


def test_a_checkpoint_of_something_else_is_refused(make_trainer, tmp_path):
    torch.save({"weights": torch.ones(1)}, tmp_path / "checkpoint_00000001.pt")
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
    with pytest.raises(ValueError, match="is damaged"):
        Checkpointer(tmp_path).resume(make_trainer(), tmp_path / "bad.pt")
    assert "executed" not in capsys.readouterr().out


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
    assert "resume='auto' continues from there" in caplog.text


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
    trainer = make_trainer()
    Checkpointer(tmp_path).attach(trainer)
    assert half.exists(), "another run may be writing it"
    trainer.run()
    assert not half.exists()


@pytest.mark.parametrize("content", [b"hello", b"", b"PK\x03\x04", bytes(range(256))])
def test_a_file_of_anything_is_no_checkpoint(make_trainer, tmp_path, content):
    path = tmp_path / "checkpoint_00000001.pt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged"):
        Checkpointer(tmp_path / "new").resume(make_trainer(), path)


def test_a_run_whose_checkpoints_are_all_damaged_stops(make_trainer, tmp_path):
    run(make_trainer, tmp_path, stop=2, every_steps=1)
    for path in Checkpointer(tmp_path).files():
        path.write_bytes(path.read_bytes()[:-7])
    for _ in range(2):
        trainer = make_trainer()
        with pytest.raises(ValueError, match=r"none of the checkpoints in .* is intact .*To start from step 0, remove"):
            Checkpointer(tmp_path).resume(trainer)
        assert trainer.state.iteration == 0
    for path in Checkpointer(tmp_path).files():  # as an earlier version of this package left them
        path.rename(path.with_suffix(".damaged"))
    with pytest.raises(ValueError, match="none of the checkpoints"):
        Checkpointer(tmp_path).resume(make_trainer())


@pytest.mark.parametrize("place", [0.2, 0.5, 0.9])
def test_one_flipped_bit_is_damage(make_trainer, tmp_path, place):
    run(make_trainer, tmp_path, stop=2, every_steps=1)
    newest = tmp_path / "checkpoint_00000002.pt"
    content = bytearray(newest.read_bytes())
    content[int(place * len(content))] ^= 4
    newest.write_bytes(content)
    trainer = make_trainer()
    Checkpointer(tmp_path).resume(trainer)
    assert trainer.state.iteration == 1
    assert newest.with_suffix(".damaged").exists()


@pytest.mark.parametrize(
    "error", [PermissionError(errno.EACCES, "no"), OSError(errno.EIO, "disk"), MemoryError("full")]
)
def test_an_error_of_the_disk_or_of_memory_is_not_damage(make_trainer, tmp_path, monkeypatch, error):
    run(make_trainer, tmp_path, stop=2, every_steps=1)

    def refuse(*args, **kwargs):
        raise error

    target = (checkpoint_file, "_digest") if isinstance(error, OSError) else (torch, "load")
    monkeypatch.setattr(*target, refuse)
    trainer = make_trainer()
    with pytest.raises(type(error)):
        Checkpointer(tmp_path).resume(trainer)
    assert len(Checkpointer(tmp_path).files()) == 2
    assert not list(tmp_path.glob("*.damaged"))


def test_a_checkpoint_folder_that_cannot_be_listed_is_not_empty(make_trainer, tmp_path, monkeypatch):
    run(make_trainer, tmp_path, stop=2, every_steps=1)

    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(PermissionError):
        Checkpointer(tmp_path).resume(make_trainer())


def test_files_of_other_names_are_neither_read_nor_deleted(make_trainer, tmp_path):
    kept = tmp_path / "checkpoint_00000001_best.pt"
    kept.write_bytes(b"mine")
    run(make_trainer, tmp_path, every_steps=1, keep_last=1)
    assert kept.read_bytes() == b"mine"
    assert [path.name for path in Checkpointer(tmp_path).files()] == ["checkpoint_00000006.pt"]


@pytest.mark.parametrize("waiting", [False, True])
@pytest.mark.parametrize(("number", "end"), [(signal.SIGTERM, SystemExit), (signal.SIGINT, KeyboardInterrupt)])
def test_a_signal_saves_a_checkpoint_and_ends(make_trainer, tmp_path, caplog, number, end, waiting):
    whole, losses = run(make_trainer, tmp_path / "whole")
    trainer = make_trainer([TeacherEMA(0.9)])
    saver = Checkpointer(tmp_path / "cut")
    event = Events.GET_BATCH_STARTED(once=2) if waiting else Events.ITERATION_STARTED(once=2)
    trainer.add_event_handler(event, lambda: signal.raise_signal(number))
    saver.attach(trainer)
    handler = signal.getsignal(number)
    with pytest.raises(end):
        trainer.run()
    assert signal.getsignal(number) is handler
    assert [path.name for path in saver.files()] == ["checkpoint_00000002.pt"]
    assert f"{number.name} received: stopping after the current step" in caplog.text
    assert "the last checkpoint is" in caplog.text
    rest, rest_losses = run(make_trainer, tmp_path / "cut")
    assert rest_losses == losses[2:]
    for a, b in zip(whole.method.state_dict().values(), rest.method.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_two_runs_in_one_folder_are_refused(make_trainer, tmp_path):
    trainer = make_trainer(epochs=1)
    Checkpointer(tmp_path).attach(trainer)
    with FolderLock(tmp_path, "another run"), pytest.raises(FolderInUseError, match="in use by another run, process"):
        trainer.run()
    assert not Checkpointer(tmp_path).files()
    trainer.run()
    assert len(Checkpointer(tmp_path).files()) == 1


def test_a_run_that_another_one_overtook_is_refused(make_trainer, tmp_path):
    trainer = make_trainer()
    Checkpointer(tmp_path).resume(trainer)
    Checkpointer(tmp_path).attach(trainer)
    run(make_trainer, tmp_path)
    with pytest.raises(ValueError, match="holds newer checkpoints than step 0"):
        trainer.run()


def test_all_processes_take_the_checkpoint_that_the_first_one_chose(make_trainer, tmp_path, monkeypatch):
    run(make_trainer, tmp_path, stop=2, every_steps=1)
    trainer = make_trainer()
    trainer.rank = 1
    chosen = tmp_path / "checkpoint_00000001.pt"  # the newer one was damaged for the first process
    monkeypatch.setattr(checkpoint, "from_first_process", lambda value: chosen)
    Checkpointer(tmp_path).resume(trainer)
    assert trainer.state.iteration == 1
