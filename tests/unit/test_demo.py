from __future__ import annotations

import subprocess
import sys

import pytest

from monai_anat import demo


def test_command_names_files_root_and_overrides():
    command = demo.bundle_command("cxr_peac_pretraining", "train", "cpu_demo", max_epochs="2")
    assert command[:4] == [sys.executable, "-m", "monai.bundle", "run"]
    assert command[5].endswith("cpu_demo.json']")
    assert command[-2:] == ["--max_epochs", "2"]


def test_runs_both_bundles_then_reports(tmp_path, monkeypatch):
    commands = []

    def run(command, env, check):
        commands.append(" ".join(command))
        if "few_shot" in commands[-1]:
            (tmp_path / "few_shot").mkdir()
            (tmp_path / "few_shot" / "few_shot.json").write_text("{}")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(demo.subprocess, "run", run)
    monkeypatch.setattr(demo, "demo_report", lambda path, **rest: path)
    monkeypatch.setattr(demo, "few_shot_table", lambda result: "the table")
    text = demo.run_demo(tmp_path)
    assert "the table" in text
    assert "report.html" in text
    assert ["cxr_peac_pretraining" in commands[0], "cxr_lung_segmentation" in commands[1]] == [True, True]


def test_a_failed_command_stops_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.subprocess, "run", lambda c, env, check: subprocess.CompletedProcess(c, 1))
    with pytest.raises(RuntimeError, match=r"1/2 PEAC pre-training failed; the lines above say why"):
        demo.run_demo(tmp_path)


def test_too_little_disk_is_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 3 * 2**20}))
    with pytest.raises(OSError, match=r"needs 500 MB in .*, 3 MB are free; name another"):
        demo.run_demo(tmp_path)


def test_a_finished_demonstration_is_replaced_and_a_stopped_one_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.subprocess, "run", lambda c, env, check: subprocess.CompletedProcess(c, 1))
    (tmp_path / "pretraining").mkdir()
    with pytest.raises(RuntimeError):
        demo.run_demo(tmp_path)
    assert (tmp_path / "pretraining").exists()
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RuntimeError):
        demo.run_demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
