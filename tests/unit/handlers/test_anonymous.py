from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_anat.handlers.anonymous import weights_fingerprint, without_paths


@pytest.mark.parametrize(
    "config",
    [
        {"dataset_dir": "DOE_JANE"},
        {"train#dataset#cache_dir": "DOE_JANE"},
        {"x": "~/DOE_JANE"},
        {"x": "../DOE_JANE/list.json"},
        {"x": "data/DOE_JANE"},
        {"x": "/data/DOE_JANE"},
        {"x": "C:\\Users\\DOE_JANE"},
        {"x": Path("DOE_JANE")},
        {"init": "DOE_JANE.pt"},
        {"resume": "DOE_JANE.pt"},
        {"datalist": [{"image": "DOE_JANE.png"}]},
        {"files": ["DOE_JANE.png"]},
        {"x": "$load('~/DOE_JANE.json')"},
        {"x": '$load("hospital/DOE_JANE.json", @y)'},
        {"train": {"handlers": [{"folder": "DOE_JANE"}]}},
    ],
)
def test_no_form_of_a_path_is_kept(config):
    assert "DOE" not in json.dumps(without_paths(config))


def test_what_is_no_path_is_kept():
    config = {
        "lr": 0.1,
        "resume": "auto",
        "init": None,
        "dataset": {"_target_": "monai_anat.data.SeededDataset", "keys": "image", "data": "@datalist"},
        "out": "$str(@output_dir) + '/checkpoints'",
        "file": "%train::handlers",
        "mode": "bilinear",
    }
    assert without_paths(config) == config


def test_weights_are_identified_by_their_content(tmp_path):
    (tmp_path / "DOE.pt").write_bytes(b"weights")
    (tmp_path / "other.pt").write_bytes(b"weights")
    first = weights_fingerprint(tmp_path / "DOE.pt")
    assert first == weights_fingerprint(str(tmp_path / "other.pt"))
    assert "DOE" not in first
    folder = weights_fingerprint(tmp_path)
    (tmp_path / "other.pt").write_bytes(b"changed")
    assert weights_fingerprint(tmp_path) != folder
    assert weights_fingerprint(None) is None
    with pytest.raises(FileNotFoundError):
        weights_fingerprint(tmp_path / "missing.pt")
