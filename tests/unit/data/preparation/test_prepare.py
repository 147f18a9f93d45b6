from __future__ import annotations

import csv
import errno
import json
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import (
    DatalistError,
    ShardDataset,
    check_splits,
    load_datalist,
    prepare_radiographs,
    pretraining_datalist,
)
from monai_anat.data.preparation.journal import ShardWriter
from monai_anat.data.preparation.prepare import PrepareProgress
from monai_anat.data.preparation.prepare_one import Outcome, Task, prepare_file
from monai_anat.data.preparation.workers import CRASHED
from monai_anat.data.reading import radiograph
from monai_anat.data.reading.shards import open_index
from monai_anat.files import FolderInUseError


@pytest.fixture
def source(write_radiographs: Callable[..., Path]) -> Path:
    """Twelve real pictures of six patients, one exact copy, one recompressed copy, and three files that are no use."""
    folder = write_radiographs("png")
    (folder / "p9_copy.png").write_bytes((folder / "p0_0.png").read_bytes())
    with Image.open(folder / "p1_2.png") as image:
        image.save(folder / "p8_again.jpg", quality=60)
    (folder / "empty.dcm").write_bytes(b"")
    Image.fromarray(np.full((80, 80), 9, np.uint8)).save(folder / "blank.png")
    (folder / "cut.png").write_bytes((folder / "p0_0.png").read_bytes()[:200])
    return folder


TIMED = ("summary.json", "checksums.json")  # hold how long it took


def _prepare(source: Path, out: Path, **arguments: Any) -> Any:
    arguments = {"size": 48, "patient_pattern": r"p(\d)_", "key_file": out.parent / "key", **arguments}
    return prepare_radiographs(source, out, **arguments)


def _content(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file() and p.name not in TIMED}


def test_what_is_taken_and_what_is_set_aside_and_why(source: Path, tmp_path: Path) -> None:
    summary = _prepare(source, tmp_path / "out", splits={"training": 0.5, "test": 0.5})
    assert (summary.found, summary.written, summary.rejected) == (17, 13, 4)
    rows = list(csv.DictReader((tmp_path / "out" / "rejected.csv").read_text().splitlines()))
    names = sorted(path.name for path in source.iterdir())
    reasons = {names[int(row["position"])]: row["reason"] for row in rows}
    assert set(reasons) == {"empty.dcm", "blank.png", "cut.png", "p9_copy.png"}
    assert "blank" in reasons["blank.png"] and "empty" in reasons["empty.dcm"] and "damaged" in reasons["cut.png"]
    assert reasons["p9_copy.png"] == f"the same pixels as the file at position {names.index('p0_0.png')}"
    copies = list(csv.DictReader((tmp_path / "out" / "duplicates.csv").read_text().splitlines()))
    assert [(names[int(r["position"])], names[int(r["copy_position"])]) for r in copies] == [
        ("p1_2.png", "p8_again.jpg")
    ]
    assert summary.near_duplicates == 1 and summary.patients == 6
    assert "13 images of 6 patients" in summary.text()
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["written"] == 13
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert sheet.size == (1280, 256)
    parts = {split: load_datalist(tmp_path / "out", split) for split in ("training", "test")}
    check_splits(parts)
    assert sum(map(len, parts.values())) == 13 and min(map(len, parts.values())) > 3


def test_proportions_spacing_and_views_reach_the_index(tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
    with Image.open(pretraining_datalist()[0]["image"]) as image:
        values = np.asarray(image.resize((60, 100))).astype(np.uint16) * 16
    (tmp_path / "in").mkdir()
    make_dicom(
        tmp_path / "in" / "a", values, PixelSpacing=[0.2, 0.4], ViewPosition="PA", WindowCenter=2048, WindowWidth=4096
    )
    make_dicom(tmp_path / "in" / "b", values, ViewPosition="LL")
    summary = _prepare(tmp_path / "in", tmp_path / "out", size=50, patient_pattern=None)
    (record,) = open_index(tmp_path / "out")
    assert (record["height"], record["width"]) == (50, 60)
    assert (record["original_height"], record["original_width"]) == (100, 60)
    np.testing.assert_allclose(record["spacing"], 0.4)
    assert record["view"] == b"PA" and record["kind"] == b"dicom"
    assert summary.reasons == {"a lateral view where frontal was asked for": 1}
    assert _prepare(tmp_path / "in", tmp_path / "any", view="any", patient_pattern=None).patients == 1


def test_processes_change_nothing(source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "alone")
    _prepare(source, tmp_path / "many", workers=2)
    assert _content(tmp_path / "alone") == _content(tmp_path / "many")


def _stop_at(number: int) -> Callable[[PrepareProgress], None]:
    def stop(progress: PrepareProgress) -> None:
        if progress.done == number:
            assert progress.total == 17 and progress.seconds_left is not None
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_is_stopped_anywhere_goes_on_without_doing_work_twice(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    _prepare(source, tmp_path / "whole")
    monkeypatch.setattr("monai_anat.data.preparation.journal._FLUSH_EVERY", 1)
    with pytest.raises(KeyboardInterrupt):
        _prepare(source, tmp_path / "parts", workers=workers, on_progress=_stop_at(7))
    assert not (tmp_path / "parts" / "index.npy").exists()
    seen = tmp_path / "seen"

    def noting(task: Task) -> Outcome:
        with seen.open("a") as handle:  # workers are other processes
            handle.write(f"{task.position}\n")
        return prepare_file(task)

    monkeypatch.setattr("monai_anat.data.preparation.prepare.prepare_file", noting)
    _prepare(source, tmp_path / "parts", workers=workers)
    assert [int(line) for line in seen.read_text().split()] == list(range(7, 17))
    assert _content(tmp_path / "parts") == _content(tmp_path / "whole")
    seen.unlink()
    _prepare(source, tmp_path / "parts", workers=workers)
    assert not seen.exists()


def test_new_files_are_added_to_a_finished_folder(source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "out")
    before = ShardDataset(tmp_path / "out")[12]["image"].numpy()
    with Image.open(pretraining_datalist()[40]["image"]) as image:
        image.save(source / "p7_new.jpg")
    assert _prepare(source, tmp_path / "out").written == 14
    np.testing.assert_array_equal(ShardDataset(tmp_path / "out")[12]["image"], before)


def test_official_splits_and_labels_are_kept(source: Path, tmp_path: Path) -> None:
    items = {
        "training": [{"image": str(source / "p0_0.png"), "label": [0, 1]}, {"image": str(source / "p2_4.png")}],
        "test": [{"image": str(source / "p3_6.png"), "label": 1}],
    }
    (tmp_path / "list.json").write_text(json.dumps(items))
    _prepare(tmp_path / "list.json", tmp_path / "out")
    assert [item.get("label") for item in load_datalist(tmp_path / "out", "training")] == [[0, 1], None]
    assert load_datalist(tmp_path / "out", "test")[0]["label"] == 1


def test_nothing_useful_is_an_error_that_counts_the_reasons(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.dcm").write_bytes(b"")
    with pytest.raises(DatalistError, match=r"none of the 1 files could be used \(1 x the file is empty"):
        _prepare(tmp_path / "in", tmp_path / "out")
    assert (tmp_path / "out" / "rejected.csv").is_file()
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DatalistError, match="at least one file"):
        _prepare(tmp_path / "nothing", tmp_path / "out2")


def test_full_disk_is_a_sentence_and_the_next_run_goes_on(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = ShardWriter.flush, []

    def full(self: ShardWriter) -> None:
        calls.append(1)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ShardWriter, "flush", full)
    with pytest.raises(DatalistError, match="is full; free some space and give the same command again"):
        _prepare(source, tmp_path / "out")
    monkeypatch.setattr(ShardWriter, "flush", real)
    assert calls and _prepare(source, tmp_path / "out").written == 13


def _deadly(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], None]) -> None:
    def decode(path: str) -> Any:
        if name in path:
            act()
        return radiograph.decode(path)

    monkeypatch.setattr("monai_anat.data.preparation.prepare_one.decode", decode)


@pytest.mark.parametrize("workers", [1, 2])
def test_file_that_kills_its_process_is_set_aside(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    _deadly(monkeypatch, "p2_4", lambda: os.kill(os.getpid(), signal.SIGKILL))
    summary = _prepare(source, tmp_path / "out", workers=workers)
    assert summary.written == 12 and summary.reasons[CRASHED] == 1


def test_file_that_takes_too_long_is_set_aside(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _deadly(monkeypatch, "p2_4", lambda: time.sleep(60))
    summary = _prepare(source, tmp_path / "out", time_limit=1.0)
    assert summary.written == 12
    assert summary.reasons["decoding the file took longer than the time limit of 1 s"] == 1


def test_file_that_killed_a_run_without_workers_is_set_aside_by_the_next(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _deadly(monkeypatch, "p2_4", lambda: os.kill(os.getpid(), signal.SIGKILL))
    process = multiprocessing.get_context("fork").Process(
        target=_prepare, args=(source, tmp_path / "out"), kwargs={"workers": 0}
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    summary = _prepare(source, tmp_path / "out", workers=0)
    assert summary.written == 12 and summary.reasons[CRASHED] == 1


def test_a_second_run_on_a_folder_is_refused_while_the_first_runs(source: Path, tmp_path: Path) -> None:
    refused = []

    def second(progress: PrepareProgress) -> None:
        with pytest.raises(FolderInUseError, match="in use by preparation, process"):
            _prepare(source, tmp_path / "out")
        refused.append(progress.done)

    _prepare(source, tmp_path / "out", on_progress=second)
    assert len(refused) == 17


def test_a_folder_is_not_continued_from_another_source_key_or_after_changes(source: Path, tmp_path: Path) -> None:
    """Today's files would stand beside those of an earlier run, without a word."""
    _prepare(source, tmp_path / "out")
    shutil.copytree(source, tmp_path / "other")
    for arguments, message in (
        ({"source": tmp_path / "other"}, "another source"),
        ({"key_file": tmp_path / "key 2"}, r"arguments \(another key_file\)"),
        ({"patient_pattern": "x"}, "another patient_pattern"),
        ({"size": 64}, "size=48 then, 64 now"),
    ):
        with pytest.raises(DatalistError, match=message):
            _prepare(**{"source": source, "out": tmp_path / "out", **arguments})
    with Image.open(source / "p0_0.png") as image:
        image.rotate(180).save(source / "p0_0.png")
    with pytest.raises(DatalistError, match=r"1 images of out=.* come from files that are gone or changed"):
        _prepare(source, tmp_path / "out")


def test_a_list_whose_labels_changed_is_another_list(source: Path, tmp_path: Path) -> None:
    items = [{"image": str(source / "p0_0.png"), "label": 1}, {"image": str(source / "p2_4.png"), "label": 0}]
    _prepare(items, tmp_path / "out")
    items[1]["label"] = 1
    with pytest.raises(DatalistError, match=r"1 images of .* changed since, in content or in the list"):
        _prepare(items, tmp_path / "out")


def test_masks_and_folders_of_splits_do_not_become_training_images(source: Path, tmp_path: Path) -> None:
    (source / "test").mkdir()
    (source / "masks").mkdir()
    (source / "p5_10.png").rename(source / "test" / "p5_10.png")
    (source / "p5_11.png").rename(source / "test" / "p5_11.png")
    halves = np.zeros((80, 90), np.uint8)
    halves[:, 45:] = 255
    Image.fromarray(halves).save(source / "masks" / "p0_0.png")
    Image.fromarray(halves).save(source / "p6_lung.jpg", quality=60)
    summary = _prepare(source, tmp_path / "out")
    assert summary.splits == {"training": 11, "test": 2}
    assert summary.reasons["the file lies in a folder of masks"] == 1
    assert summary.reasons["the picture has few gray values, like a mask"] == 1


def test_home_folder_and_names_in_what_is_left_behind(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    source.rename(tmp_path / "Mustermann")
    (tmp_path / "Mustermann" / "p0_0.png").rename(tmp_path / "Mustermann" / "p0_Erika.png")
    prepare_radiographs(
        "~/Mustermann",
        "~/out",
        size=48,
        patient_pattern=r"p(\d)_|(Mustermann)",
        key_file="~/key",
        splits={"training": 1},
    )
    assert (tmp_path / "key").is_file()
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or not any(name in path.read_bytes() for name in (b"Mustermann", b"Erika"))


def test_names_of_splits_in_any_alphabet_but_not_of_any_length(source: Path, tmp_path: Path) -> None:
    items = [{"image": str(source / "p0_0.png"), "split": "prüfung"}, {"image": str(source / "p1_0.png")}]
    _prepare(items, tmp_path / "out")
    assert len(ShardDataset(tmp_path / "out", split="prüfung")) == 1
    items[0]["split"] = "external_validation"
    with pytest.raises(DatalistError, match="at most 12 bytes long, got 'external_validation'"):
        _prepare(items, tmp_path / "other")
    assert not (tmp_path / "other").exists()
    _prepare(items, tmp_path / "other", splits={"training": 1.0})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"size": 4}, "size must be"),
        ({"view": "side"}, "view must be"),
        ({"stratify": "age"}, "stratify must be"),
        ({"workers": -1}, "workers must be"),
        ({"time_limit": 0}, "time_limit must be more than 0 seconds"),
        ({"patient_pattern": "(p"}, r"patient_pattern must be a regular expression, got '\(p': missing \)"),
        ({"splits": {"training": 0.4}}, "sum to 1"),
    ],
)
def test_arguments_are_checked_first(source: Path, tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _prepare(source, tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_key_must_not_travel_with_the_data(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match="outside out"):
        _prepare(source, tmp_path / "out", key_file=tmp_path / "out" / "key")


def test_other_keys_give_other_groups(source: Path, tmp_path: Path) -> None:
    _prepare(source, tmp_path / "a")
    _prepare(source, tmp_path / "b", key_file=tmp_path / "other")
    first, second = (set(open_index(tmp_path / name)["group"].tolist()) for name in "ab")
    assert len(first) == 6 and not first & second


@pytest.mark.parametrize("workers", [0, 2])
def test_a_file_that_a_list_names_twice_is_told(source: Path, tmp_path: Path, workers: int) -> None:
    items = [{"image": str(source / name), "view": "PA"} for name in ("p0_0.png", "p0_1.png", "p0_0.png")]
    summary = _prepare(items, tmp_path / "out", workers=workers)  # type: ignore[arg-type]
    assert (summary.found, summary.written, summary.rejected) == (3, 2, 0)
    assert any(note.startswith("1 entries of the source name a file that another") for note in summary.notes)
    assert not any("view" in note for note in summary.notes)


def test_views_that_a_table_names_and_nobody_knows_are_set_aside(tmp_path: Path) -> None:
    views = {"a": "AP Supine", "b": "CT", "c": "Axial", "d": "SWIMMERS", "e": "PA", "f": "L", "g": "", "h": "Doe, Jane"}
    lines = ["image;patient;view"]
    for number, (name, view) in enumerate(views.items()):
        with Image.open(pretraining_datalist()[number]["image"]) as image:
            image.save(tmp_path / f"{name}.png")
        lines.append(f"{name}.png;{number};{view}")
    (tmp_path / "views.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    summary = _prepare(tmp_path / "views.csv", tmp_path / "out", patient_pattern=None)
    assert summary.written == 3 and summary.views == {"AP": 1, "PA": 1, "unknown": 1}
    assert summary.reasons == {
        "the list names a view that is not known to be frontal": 4,
        "a lateral view where frontal was asked for": 1,
    }
    assert "1 of 3 images have no view in their header or list and count as frontal" in summary.text()
    assert not any(b"Jane" in path.read_bytes() for path in (tmp_path / "out").rglob("*") if path.is_file())
