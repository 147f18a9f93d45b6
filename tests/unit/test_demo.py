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

    def run(command, env, check, stdout=None, stderr=None):
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
    assert ["cxr_popar_pretraining" in commands[0], "cxr_lung_segmentation" in commands[1]] == [True, True]


def test_a_failed_command_stops_with_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.subprocess, "run", lambda c, env, check, **streams: subprocess.CompletedProcess(c, 1))
    with pytest.raises(
        RuntimeError, match=r"1/2 Pre-training without labels \(POPAR\) failed; run the same command to resume"
    ):
        demo.run_demo(tmp_path)


def test_too_little_disk_is_said_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 3 * 2**20}))
    with pytest.raises(OSError, match=r"needs 500 MB in .*, 3 MB are free; use another"):
        demo.run_demo(tmp_path)


def test_a_finished_demonstration_is_replaced_and_a_stopped_one_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(demo.subprocess, "run", lambda c, env, check, **streams: subprocess.CompletedProcess(c, 1))
    (tmp_path / "pretraining").mkdir()
    with pytest.raises(RuntimeError):
        demo.run_demo(tmp_path)
    assert (tmp_path / "pretraining").exists()
    (tmp_path / "report.html").write_text("old")
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RuntimeError):
        demo.run_demo(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pretraining.log", "thesis.txt"]


def test_without_a_terminal_each_stage_is_one_line_and_a_failure_shows_the_end_of_its_output(tmp_path, caplog):
    log = tmp_path / "stage.log"
    with caplog.at_level("INFO"):
        demo._run("1/2 Stage", [sys.executable, "-c", "print('much')"], log)
    assert [record.message.strip().split(",")[0].split(" in ")[0] for record in caplog.records] == [
        "1/2 Stage",
        "finished",
    ]
    assert log.read_text() == "much\n"
    failing = [sys.executable, "-c", "print('the cause'); raise SystemExit(1)"]
    with pytest.raises(RuntimeError, match=r"(?s)1/2 Stage failed.*the cause"):
        demo._run("1/2 Stage", failing, log)
