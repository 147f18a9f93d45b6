from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from monai_anat.evaluation import PatientBootstrap, Result, compare_report
from monai_anat.evaluation.reports.comparison import _names, write_comparison

PATIENTS = [f"p{number}" for number in range(20)]
TRUTH = np.random.default_rng(0).normal(0.6, 0.1, len(PATIENTS))


def result_of(shift: float, **changes) -> Result:
    bootstrap = PatientBootstrap(PATIENTS)
    metrics = {
        "error": bootstrap.mean(TRUTH + shift, better="lower", unit="thorax widths"),
        "error/apex": bootstrap.mean(TRUTH + shift, better="lower"),
        "size": bootstrap.mean(TRUTH + shift, better=None),
    }
    baseline = {"same position": {"error": bootstrap.mean(TRUTH + 0.3, better="lower")}}
    fields = {
        "settings": {"seed": 0},
        "n_patients": len(PATIENTS),
        "patients": bootstrap.fingerprint,
        "metrics": metrics,
        "baselines": baseline,
        "notes": ["A note."],
    }
    return Result("landmarks", **{**fields, **changes})


def test_only_a_real_difference_is_marked():
    page = compare_report({"a": {"landmarks": result_of(0.0)}, "b": {"landmarks": result_of(0.1)}}).render()
    rows = [row for row in page.split("<tr>") if row.startswith("<td>error")]
    assert "▲</td>" in rows[0].split("<td>")[2]
    assert "▲" not in rows[0].split("<td>")[3]
    size = next(row for row in page.split("<tr>") if row.startswith("<td>size"))
    assert "▲" not in size  # neither direction is better
    equal = compare_report({"a": {"landmarks": result_of(0.0)}, "b": {"landmarks": result_of(0.0)}}).render()
    assert "▲</td>" not in equal


def test_of_three_the_one_ahead_of_both_is_marked():
    middle = {"a": 0.1, "b": 0.0, "c": 0.1}
    page = compare_report({name: {"landmarks": result_of(shift)} for name, shift in middle.items()}).render()
    row = next(row for row in page.split("<tr>") if row.startswith("<td>error ↓<"))
    assert ["▲" in cell for cell in row.split("<td>")[2:5]] == [False, True, False]
    assert page.count("A note.") == 1
    assert "Paired differences" not in page


def test_protocols_of_one_encoder_are_left_out_and_strangers_refused(tmp_path):
    one = {"landmarks": result_of(0.0), "symmetry": result_of(0.0)}
    page = write_comparison({"a": one, "b": {"landmarks": result_of(0.1)}}, tmp_path / "page.html").read_text()
    assert "Landmarks" in page and "Symmetry" not in page
    assert "Paired differences" in page
    with pytest.raises(ValueError, match="two encoders with a protocol in common"):
        compare_report({"a": one})
    with pytest.raises(ValueError, match="same settings"):
        compare_report({"a": one, "b": {"landmarks": result_of(0.1, settings={"seed": 1})}})


def test_encoders_are_called_by_what_tells_their_folders_apart():
    assert _names([Path("runs/a/encoder"), Path("runs/b/encoder")]) == ["a", "b"]
    assert _names([Path("runs/a-1"), Path("runs/a-2"), Path("other/a-2")]) == ["runs-a-1", "runs-a-2", "other-a-2"]
    assert _names([Path("runs/a")]) == ["a"]
    assert _names([Path("runs/a"), Path("runs/a/later")]) == ["a", "a-later"], "one folder inside the other"
    with pytest.raises(ValueError, match="different folders"):
        _names([Path("a"), Path("a")])


def test_baselines_that_differ_stand_there_once_for_each_encoder():
    bootstrap = PatientBootstrap(PATIENTS)
    results = {
        name: {
            "landmarks": result_of(
                0.0,
                baselines={
                    "same position": {"error": bootstrap.mean(TRUTH + 0.3, better="lower")},
                    "random initialization": {"error": bootstrap.mean(TRUTH + shift, better="lower")},
                },
            )
        }
        for name, shift in (("a", 0.4), ("b", 0.5))
    }
    page = compare_report(results).render()
    for heading in ("same position", "random initialization (a)", "random initialization (b)"):
        assert f"<th>{heading}</th>" in page
    row = next(row for row in page.split("<tr>") if row.startswith("<td>error ↓<"))
    found = [float(cell.split("</td>")[0]) for cell in row.split("<td>")[4:7]]
    assert found == pytest.approx(TRUTH.mean() + np.array([0.3, 0.4, 0.5]), abs=6e-4)
