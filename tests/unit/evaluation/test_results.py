"""Results in memory and on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest

from monai_anat.evaluation import PatientBootstrap, Result, compare_results, load_results
from monai_anat.evaluation.pseudonyms import Pseudonyms
from monai_anat.evaluation.results import save_results

NAMES = [f"p{number}" for number in range(12)]


def result() -> Result:
    bootstrap = PatientBootstrap(NAMES)
    metrics = {
        "score/a b": bootstrap.mean(np.arange(12.0), better="higher"),
        "none": bootstrap.mean([np.nan] * 12, better="higher"),
    }
    return Result(
        "p",
        settings={"k": [1, 2], "encoder": {"image_size": 3}},
        patients=bootstrap.fingerprint,
        metrics=metrics,
        cases={"best": {"image": "/scans/Doe_Jane.png", "score": 1.0}},
        extra={"n_pairs": 3},
    )


def test_disk_keeps_every_number(tmp_path) -> None:
    results = {"p": result(), "q": Result("q", skipped="no masks")}
    path = save_results(results, tmp_path / "new")
    assert "replicates" not in path.read_text()
    assert load_results(tmp_path / "new") == results
    assert compare_results(load_results(tmp_path / "new")["p"], results["p"])["score/a b"].difference == 0
    with pytest.raises(FileNotFoundError, match="evaluate an encoder into this folder first"):
        load_results(tmp_path)


def test_file_names_come_back_through_the_look_up_file_only(tmp_path) -> None:
    names = Pseudonyms({"test": [{"image": "/scans/Doe_Jane.png"}]})
    path = save_results({"p": result()}, tmp_path / "out", pseudonyms=names)
    assert json.loads(path.read_text())["p"]["cases"]["best"]["image"] == "test 0"
    assert load_results(tmp_path / "out")["p"].cases["best"]["image"] == "test 0"
    names.write_lookup(tmp_path / "out")
    assert load_results(tmp_path / "out")["p"] == result()


def test_files_of_earlier_versions_are_read(tmp_path) -> None:
    """They have the same form, fewer entries, and no look-up file."""
    old = {"protocol": "p", "settings": {}, "metrics": {"m": {"value": 1.0, "low": None, "high": None}}, "n_pairs": 2}
    found = Result.from_json(old)
    assert (found.metrics["m"].value, found.extra) == (1.0, {"n_pairs": 2})
    assert Result.from_json(found.to_json()) == found


def test_paths_inside_the_folder_move_with_it(tmp_path) -> None:
    first, moved = tmp_path / "first", tmp_path / "moved"
    masks = first / "few_shot" / "masks.npz"
    path = save_results({"p": Result("p", metrics=result().metrics, cases={"best": {"masks": str(masks)}})}, first)
    assert str(tmp_path) not in path.read_text()
    first.rename(moved)
    assert load_results(moved)["p"].cases["best"]["masks"] == str(moved / "few_shot" / "masks.npz")
