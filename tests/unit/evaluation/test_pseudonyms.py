"""File names and patients in outputs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_anat.evaluation.pseudonyms import Pseudonyms, lookup_file

ITEMS = [
    {"image": "/disk/MEIER_Anna/1.2.840.png", "label": ["/disk/MEIER_Anna/r.png", "/disk/MEIER_Anna/l.png"]},
    {"image": Path("/disk/b/Schulz 1961.png"), "label": "Mass|Edema", "patient": "Schulz"},
    {"image": "/disk/c/x.png", "label": 3, "patient": 7},
]


@pytest.fixture
def names() -> Pseudonyms:
    return Pseudonyms({"test": ITEMS}, "/disk/list.json")


def test_paths_become_positions(names) -> None:
    content = {"images": [str(item["image"]) for item in ITEMS], "label": "Mass|Edema", "n": 3, "none": None}
    hidden = names.hide(content)
    assert hidden == {"images": ["test 0", "test 1", "test 2"], "label": "Mass|Edema", "n": 3, "none": None}
    assert names.hide(ITEMS[0]["label"]) == ["test 0 label", "test 0 label"]


def test_sentences_lose_paths_names_and_patients(names) -> None:
    text = names.hide_text("datalist /disk/list.json: Schulz 1961.png of patient 'Schulz' (7 rows) is not 1.2.840.png")
    assert text == "datalist the datalist: test 1 of patient patient 0 (7 rows) is not test 0"


def test_look_up_file_is_beside_the_folder(names, tmp_path) -> None:
    path = names.write_lookup(tmp_path / "out")
    assert path == lookup_file(tmp_path / "out") == tmp_path / "out.files.json"
    assert json.loads(path.read_text())["test 1"] == "/disk/b/Schulz 1961.png"
    for folder in (tmp_path / "out", tmp_path / "out" / "encoder"):
        assert Pseudonyms.reveal(["test 2", {"a": "test 0"}], folder) == [
            "/disk/c/x.png",
            {"a": "/disk/MEIER_Anna/1.2.840.png"},
        ]
    assert Pseudonyms.reveal("test 2", tmp_path / "elsewhere" / "out" / "a") == "test 2"
