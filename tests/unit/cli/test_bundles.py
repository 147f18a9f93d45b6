"""Verbs that run a bundle: the command, its folders, and errors of use."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from monai_anat import cli
from monai_anat.cli import bundles


@pytest.fixture
def commands(monkeypatch):
    """The commands that would have run, each with exit code 7."""
    seen = []
    monkeypatch.setattr(bundles.subprocess, "run", lambda c, check: seen.append(c) or subprocess.CompletedProcess(c, 7))
    return seen


def test_pretrain_runs_the_bundle_command_with_the_overrides(commands):
    words = ["pretrain", "peac", "--variant", "cpu_demo", "--processes", "2", "--seed=4", "--max_epochs", "3"]
    assert cli.main(words) == 7
    text = " ".join(commands[0])
    assert "torch.distributed.run --standalone --nproc_per_node=2 -m monai.bundle run" in text
    assert "train.json" in text
    assert "cpu_demo.json" in text
    assert "--seed 4 --max_epochs 3" in text


def test_pretrain_writes_into_the_current_folder_and_not_into_the_package(commands, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["pretrain", "peac"])
    command = commands[0]
    assert command[command.index("--output_dir") + 1] == str(tmp_path / "out" / "peac")
    assert command[command.index("--encoder_dir") + 1] == str(tmp_path / "out" / "peac" / "encoder")


@pytest.mark.parametrize("name", ["20241130", "run", "~/run"])
def test_an_output_folder_of_any_name_is_a_folder_name(name, commands, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cli.main(["pretrain", "peac", "--output_dir", name])
    command = commands[0]
    folder = Path(command[command.index("--output_dir") + 1])
    assert folder.is_absolute()
    assert folder == (tmp_path / Path(name).expanduser())
    assert command[command.index("--encoder_dir") + 1] == str(folder / "encoder")


def test_ctrl_c_ends_without_a_traceback(monkeypatch, caplog):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(bundles.subprocess, "run", interrupted)
    assert cli.main(["pretrain", "peac"]) == 130
    assert "interrupted" in caplog.text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("nothing",), "method must be one of ace, adam,"),
        (("peac", "--dataset_dir"), "must be pairs of --key value, got '--dataset_dir' alone"),
        (("peac", "more"), "must be pairs of --key value, got 'more' alone"),
        (("peac", "--variant", "nothing"), "must be among cpu_demo, inference,"),
        (("peac", "--processes", "0"), "processes must be at least 1, got 0"),
    ],
)
def test_errors_of_use_are_a_sentence(words, sentence, caplog):
    assert cli.main(["pretrain", *words]) == 2
    assert sentence in caplog.text
