"""Benchmark of methods: refusals, files of cells, and the table."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from monai_anat import evaluation, networks, resources
from monai_anat.evaluation.bootstrap import PatientBootstrap
from monai_anat.evaluation.pseudonyms import Pseudonyms
from monai_anat.files import FolderInUseError, FolderLock
from monai_anat.schedules import Progress

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

import evidence  # noqa: E402
import evidence_table  # noqa: E402

SCRATCH_OF = {"scratch": None, "popar": "scratch"}
PATIENTS = PatientBootstrap([f"patient {number}" for number in range(8)], resamples=50)


def cell(arm: str, seed: int = 0, level: float = 0.5, preset: str = "mini", **more: Any) -> dict[str, Any]:
    """A cell whose metrics and Dice are about ``level``."""
    values = [level + 0.01 * number for number in range(8)]

    def result(protocol: str) -> dict[str, Any]:
        return {
            "protocol": protocol,
            "settings": {"confidence": 0.95},
            "n_patients": 8,
            "patients": PATIENTS.fingerprint,
            "metrics": {
                evidence.HEADLINES[protocol][0]: PATIENTS.mean(values, better="higher", unit="share").to_json()
            },
            "baselines": {},
            "comparisons": {},
            "notes": [],
            "cases": {
                "best": {"score": level, "source": {"image": "gone.png"}, "target": {"image": "gone.png"}},
            },
        }

    few_shot = {
        "arms": {"arm": {"mean": level, "draws": [{"dice_by_image": values}, {"dice_by_image": values}]}},
        "test_patients": PATIENTS.names,
    }
    results = {protocol: result(protocol) for protocol in evidence.HEADLINES}
    results |= {f"few-shot-{shots}": few_shot for shots in evidence.SHOTS}
    return {"arm": arm, "seed": seed, "preset": preset, "results": results, **more}


def write(folder: Path, *cells: dict[str, Any]) -> dict[tuple[str, int], dict[str, Any]]:
    """Cells as they come back from their files."""
    for one in cells:
        (folder / f"{one['arm']}-{one['seed']}.json").write_text(json.dumps(one))
    return evidence_table.read_cells(folder)


def without_replicates(one: dict[str, Any]) -> dict[str, Any]:
    for protocol in evidence.HEADLINES:
        for metric in one["results"][protocol]["metrics"].values():
            del metric["replicates"]
    return one


def row(text: str, arm: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {arm} |"))
    return [part.strip() for part in line.strip("|").split("|")]


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Exit code of the command."""
    monkeypatch.delenv("MONAI_ANAT_DATA", raising=False)
    monkeypatch.setattr(sys, "argv", ["evidence.py", *arguments])
    try:
        evidence.main()
    except SystemExit as leaving:
        return int(leaving.code or 0)
    return 0


def test_the_files_alone_make_table_and_page(tmp_path):
    cells = write(tmp_path, cell("scratch"), cell("popar", level=0.7))
    text = evidence_table.table(cells, SCRATCH_OF)
    assert row(text, "popar")[2] == "0.735 +1/1" and "?" not in text
    assert row(text, "popar")[7].startswith("+0.200 (+0.200")
    page = tmp_path / "comparison.html"
    assert evidence_table.write_page(cells, list(SCRATCH_OF), page) == ""
    assert "scratch minus popar" in page.read_text()


def test_a_missing_scratch_is_a_question_mark_and_a_line(tmp_path):
    cells = write(tmp_path, cell("scratch"), cell("popar", level=0.7), cell("popar", 1, level=0.7))
    text = evidence_table.table(cells, SCRATCH_OF)
    assert row(text, "popar")[2].endswith("+1/1 ?") and row(text, "popar")[7].endswith(" ?")
    assert "for want of scratch-1.json." in text.splitlines()[-1]
    alone = evidence_table.table({("popar", 0): cells["popar", 0]}, SCRATCH_OF)
    assert row(alone, "popar")[2:8:5] == ["0.735 ?", "?"]


def test_files_without_replicates_give_a_table_and_say_so(tmp_path):
    cells = write(tmp_path, cell("scratch"), without_replicates(cell("popar", level=0.7)))
    text = evidence_table.table(cells, SCRATCH_OF)
    assert row(text, "popar")[2] == "0.735 ?" and row(text, "popar")[7].startswith("+0.200")
    assert "for want of replicates in popar-0.json." in text
    page = tmp_path / "comparison.html"
    remark = evidence_table.write_page(cells, list(SCRATCH_OF), page)
    assert remark == "comparison.html not written: it needs two arms, got 1, for want of replicates in popar-0.json"
    assert not page.exists()


def test_scratch_has_one_dice_whatever_the_seeds(tmp_path):
    cells = write(tmp_path, cell("scratch"), cell("scratch", 1), cell("popar"), cell("popar", 1, level=0.6))
    text = evidence_table.table(cells, SCRATCH_OF)
    assert row(text, "scratch")[6] == "0.500" and row(text, "popar")[6] == "0.550 (0.500 to 0.600)"


def test_cells_keep_what_comparisons_need():
    results = cell("popar")["results"]
    results["landmarks"]["baselines"] = {"random": results["collapse"]["metrics"]}
    kept = evidence.cell_content(evaluation.Result.from_json(results["landmarks"]))
    assert len(kept["metrics"]["error"]["replicates"]) == 50
    assert "replicates" not in kept["baselines"]["random"]["effective_rank"]


@pytest.mark.parametrize("wanted", [("full", None), ("mini", "other")])
def test_another_preset_or_data_is_refused(tmp_path, wanted):
    write(tmp_path, cell("scratch", data="chest"))
    evidence_table.refuse_mixture(tmp_path, "mini", "chest")
    with pytest.raises(ValueError, match=r"scratch-0\.json is of .*, not .* by --out"):
        evidence_table.refuse_mixture(tmp_path, *wanted)


def test_a_cell_that_was_only_begun_counts_too(tmp_path):
    (tmp_path / "popar-0").mkdir()
    (tmp_path / "popar-0" / evidence.NOTE_NAME).write_text('{"preset": "mini", "data": "chest"}')
    write(tmp_path, cell("scratch"))  # an older file, which names no data
    evidence_table.refuse_mixture(tmp_path)
    with pytest.raises(ValueError, match="data 'chest', not 'sample'"):
        evidence_table.refuse_mixture(tmp_path, "mini", "sample")


def test_the_command_refuses_in_a_sentence(tmp_path, monkeypatch, capsys):
    write(tmp_path, cell("scratch"))
    assert run(monkeypatch, "--preset", "full", "--arms", "scratch", "--out", str(tmp_path)) == 1
    assert capsys.readouterr().err.startswith("error: ")
    assert run(monkeypatch, "--arms", "popar", "--data", str(tmp_path / "no"), "--out", str(tmp_path)) == 1
    assert "--data must hold cxr_pretrain and cxr_seg" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.log"))


def test_a_failed_cell_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "executable", "false")
    assert run(monkeypatch, "--arms", "popar", "--out", str(tmp_path)) == 1
    told = capsys.readouterr()
    assert "popar, seed 0: failed" in told.out and "popar-0 failed" in told.err


@pytest.mark.parametrize(("preset", "jobs"), [("mini", 2), ("full", 1)])
def test_one_gpu_gets_one_cell_at_a_time(tmp_path, monkeypatch, preset, jobs):
    asked = []
    monkeypatch.setattr(evidence, "run_all", lambda arguments, waiting: asked.append(arguments.jobs) or [])
    assert run(monkeypatch, "--preset", preset, "--out", str(tmp_path)) == 0
    assert asked == [jobs]


def test_seconds_add_up_over_processes(tmp_path):
    path = tmp_path / "cell.json"
    path.write_text('{"preset": "mini", "seconds": 100.0}')
    with evidence.Stopwatch(path, every=0.01) as watch:
        time.sleep(0.1)
        meanwhile = json.loads(path.read_text())  # what a killed process leaves
    assert 100.01 < meanwhile["seconds"] < watch.seconds and meanwhile["preset"] == "mini"
    assert json.loads(path.read_text())["seconds"] == watch.seconds


def test_protocols_compute_where_the_bundles_do(tmp_path, monkeypatch):
    """On a GPU, evaluation and few-shot run there too, and the file identifies its cell."""
    devices = []

    def evaluate(*_: Any, device: str) -> dict[str, Any]:
        devices.append(device)
        return {"landmarks": evaluation.Result.from_json(cell("scratch")["results"]["landmarks"])}

    class FewShot:
        def __init__(self, *, device: str, **_: Any) -> None:
            devices.append(device)

        def compare(self, *_: Any) -> dict[str, Any]:
            return {}

    monkeypatch.setattr(evidence, "device", lambda: "cuda")
    monkeypatch.setattr(evaluation, "evaluate_encoder", evaluate)
    monkeypatch.setattr(evaluation, "FewShotSegmentation", FewShot)
    monkeypatch.setattr(evidence.warnings, "filterwarnings", lambda _: None)
    evidence.run_cell("scratch", 3, "mini", None, tmp_path)
    assert devices == ["cuda"] * 3
    written = json.loads((tmp_path / "scratch-3.json").read_text())
    assert (written["preset"], written["data"]) == ("mini", "sample")
    assert len(written["results"]["landmarks"]["metrics"]["error"]["replicates"]) == 50
    note = json.loads((tmp_path / "scratch-3" / evidence.NOTE_NAME).read_text())
    assert note == {"preset": "mini", "data": "sample", "fingerprint": written["fingerprint"]}
    evidence.run_cell("scratch", 3, "mini", None, tmp_path)
    assert devices == ["cuda"] * 3, "a finished cell is not run again"
    assert networks.read_encoder_record(tmp_path / "scratch-3" / "encoder").image_size[0] == 112


def test_a_cell_of_other_settings_is_refused_and_an_unreadable_one_is_run_again(tmp_path, monkeypatch, capsys):
    mark = evidence.fingerprint("popar", "mini", None)
    assert mark == evidence.fingerprint("popar", "mini", None) != evidence.fingerprint("peac", "mini", None)
    assert mark != evidence.fingerprint("popar", "full", None)
    path = tmp_path / "popar-0.json"
    path.write_text(json.dumps(cell("popar", fingerprint=mark, data="sample")))
    ran = []
    monkeypatch.setattr(evidence, "run_all", lambda arguments, waiting: ran.append(waiting) or [])
    assert run(monkeypatch, "--arms", "popar", "--out", str(tmp_path)) == 0
    path.write_text(path.read_text()[:100])  # a file cut off by a full disk
    assert run(monkeypatch, "--arms", "popar", "--out", str(tmp_path)) == 0
    assert ran == [[], [("popar", 0)]]
    path.write_text(json.dumps(cell("popar", fingerprint="other", data="sample")))
    assert run(monkeypatch, "--arms", "popar", "--out", str(tmp_path)) == 1
    assert "was computed with another arm, preset, data or version" in capsys.readouterr().err


def test_two_processes_cannot_run_one_cell(tmp_path):
    with FolderLock(tmp_path / "scratch-0", "a benchmark cell"), pytest.raises(FolderInUseError, match="is in use by"):
        evidence.run_cell("scratch", 0, "mini", None, tmp_path)


@pytest.mark.parametrize("name", [name for name, arm in evidence.ARMS.items() if arm.bundle])
def test_no_arm_of_the_small_preset_idles_at_a_low_rate(name, tmp_path):
    """The mean learning rate is at least 0.4 of the nominal one, and the last step still learns."""
    arm, preset = evidence.ARMS[name], evidence.PRESETS["mini"]
    configs = resources.bundle_path(f"cxr_{arm.bundle}_pretraining") / "configs"
    parser = ConfigParser()
    parser.read_config([str(configs / "train.json"), str(configs / "cpu_demo.json")])
    changes = evidence.overrides(name, preset, 0, tmp_path, tmp_path, images=1630)
    for key, value in changes.items():
        parser[key] = value
    parser.parse(True)
    schedule = parser.get_parsed_content("train#trainer#schedules")["lr"]
    epochs, per_epoch = changes.get("max_epochs") or sum(changes["stage_epochs"]), 1630 // 16
    steps, stages = epochs * per_epoch, max(1, arm.stages)
    length = steps // stages
    rates = [
        schedule(Progress(step // per_epoch, epochs, step, steps, step // length, step % length, length))
        for step in range(length * stages)
    ]
    nominal = float(parser.get_parsed_content("learning_rate"))
    assert sum(rates) / len(rates) >= 0.4 * nominal
    assert rates[-1] > 0
    assert rates.index(max(rates)) <= 0.1 * steps, "the warm-up takes at most a tenth"


def test_cells_hold_no_file_names_and_no_patients(tmp_path, monkeypatch):
    names = Pseudonyms({"test": [{"image": "/scans/MEIER_Anna.png", "patient": "MEIER"}]}, "/scans/list.json")
    result = evaluation.Result("p", cases={"best": {"image": "/scans/MEIER_Anna.png"}}, notes=["MEIER has no mask"])
    assert "MEIER" not in json.dumps(names.hide(evidence.cell_content(result)))
