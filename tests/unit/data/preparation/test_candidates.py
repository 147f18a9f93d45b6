from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.preparation.candidates import Candidate, count_passed_over, iterate_candidates


def test_every_file_of_a_folder_that_may_be_an_image(tmp_path: Path) -> None:
    root = tmp_path / "in"
    (root / "b").mkdir(parents=True)
    for name in ("z.png", "b/x.odd", "b/noending", "DICOMDIR", "notes.txt", ".hidden.png"):
        (root / name).write_bytes(b"x")
    (tmp_path / "outside.dcm").write_bytes(b"x")
    (root / "link.dcm").symlink_to(tmp_path / "outside.dcm")
    (root / "inner.dcm").symlink_to(root / "z.png")
    found = {str(Path(c.path).relative_to(root)): c for c in iterate_candidates(root, r"(\w)\.png")}
    assert list(found) == ["DICOMDIR", "inner.dcm", "link.dcm", "z.png", "b/noending", "b/x.odd"]
    assert "DICOMDIR" in found["DICOMDIR"].reason and found["link.dcm"].reason == ""
    assert "found already" in found["inner.dcm"].reason and found["z.png"].patient == "z"


def test_lists_bring_patient_view_split_and_numbers(tmp_path: Path) -> None:
    items = {
        "training": [{"image": "a.png", "patient": 7, "view": "pa", "label": [1, 0]}],
        "test": [{"image": "b_1.png", "label": "Doe^Jane"}],
    }
    (tmp_path / "l.json").write_text(json.dumps(items))
    first, second = iterate_candidates(tmp_path / "l.json", r"(\w)_")
    assert first == Candidate(str(tmp_path / "a.png"), patient="7", view="PA", split="training", label=[1, 0])
    assert (second.patient, second.split, second.label) == ("b", "test", None)


def test_tables_with_and_without_splits_are_read_once(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,label\nx.png,1\ny.png,0.5\n")
    assert [c.label for c in iterate_candidates(tmp_path / "a.csv")] == [1, 0.5]
    (tmp_path / "b.csv").write_text("image,split\nx.png,test\ny.png,training\n")
    assert [c.split for c in iterate_candidates(tmp_path / "b.csv")] == ["training", "test"]
    (tmp_path / "c.json").write_text('["x.png", "y.png"]')
    assert len(list(iterate_candidates(tmp_path / "c.json"))) == 2
    assert len(list(iterate_candidates([{"image": "x.png", "label": True}]))) == 1


def test_source_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match="must be an existing"):
        list(iterate_candidates(tmp_path / "none"))


def test_no_file_is_dropped_without_a_word(tmp_path: Path) -> None:
    root, outside = tmp_path / "in", tmp_path / "outside"
    (root / "deep").mkdir(parents=True)
    outside.mkdir()
    (outside / "a.png").write_bytes(b"x")
    (root / "linked").symlink_to(outside)
    (root / "deep" / "up").symlink_to(root)
    (root / "one.dcm").symlink_to(root / "two.dcm")
    (root / "two.dcm").symlink_to(root / "one.dcm")
    os.mkfifo(root / "pipe")
    os.mkfifo(root / "pipe.txt")
    (root / "scan.txt").write_bytes(bytes(128) + b"DICM")
    (root / "picture.raw").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "notes.txt").write_bytes(b"BMI 23")
    (root / "a.csv").write_bytes(b"x")
    (root / ".DS_Store").write_bytes(b"x")
    (root / "line\nbreak.png").write_bytes(b"x")
    (root / os.fsdecode(b"M\xe4rz.png")).write_bytes(b"x")
    found = {str(Path(c.path).relative_to(root)): c.reason for c in iterate_candidates(root)}
    assert {name for name, reason in found.items() if "that is searched already" in reason} == {"deep/up"}
    assert {name for name, reason in found.items() if "in a circle" in reason} == {"one.dcm", "two.dcm"}
    assert {name for name, reason in found.items() if not reason} == {
        "linked/a.png", "pipe", "scan.txt", "picture.raw", "line\nbreak.png", "M\udce4rz.png"
    }  # fmt: skip
    assert count_passed_over(root) == {".txt": 2, ".csv": 1, "hidden": 1}
    assert count_passed_over([{"image": "a.png"}]) == {}


def test_a_folder_that_must_not_be_opened_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "b/x.png", "c/x.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    plain = os.scandir

    def scandir(path: str) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", path)
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)  # root, as which tests may run, is not kept out of any folder
    found = [(Path(c.path).name, c.reason) for c in iterate_candidates(tmp_path)]
    assert found == [("a.png", ""), ("b", "permission denied: the folder cannot be opened"), ("x.png", "")]


def test_every_section_of_a_list_is_read(tmp_path: Path) -> None:
    sections = {"name": "set", "labels": ["a"], "unlabeled": [{"image": "c.png"}], "training": ["a.png", "b.png"]}
    (tmp_path / "a.json").write_text(json.dumps(sections))
    assert [c.split for c in iterate_candidates(tmp_path / "a.json")] == ["training", "training", "unlabeled"]
    (tmp_path / "a.csv").write_text("image,split\nx.png,test\ny.png,\nz.png,training\n")
    assert [(Path(c.path).name, c.split) for c in iterate_candidates(tmp_path / "a.csv")] == [
        ("z.png", "training"),
        ("x.png", "test"),
        ("y.png", None),
    ]
