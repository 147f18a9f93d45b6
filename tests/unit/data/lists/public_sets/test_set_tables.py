"""Helpers of the readers of public data sets."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.set_tables import (
    age_and_sex,
    find_table,
    index_images,
    label_number,
    present_items,
    read_json,
)


def test_the_first_pattern_with_a_file_wins(tmp_path: Path) -> None:
    for name in ("b2.csv", "b1.csv", "a.csv"):
        (tmp_path / name).touch()
    assert find_table(tmp_path, ["none.csv", "b*.csv", "a.csv"]).name == "b1.csv"
    with pytest.raises(DatalistError, match=r"folder must hold x.csv or y.csv, got none in"):
        find_table(tmp_path, ["x.csv", "y.csv"])


def test_labels_of_tables() -> None:
    row = {"A": "1.0", "B": "0", "C": "-1", "D": "2", "E": "nan", "F": "yes"}
    assert [label_number(row, name, Path("t.csv")) for name in ("A", "B", "C", "none")] == [1, 0, -1, 0]
    for name in "DEF":
        with pytest.raises(DatalistError, match=rf"labels of t.csv must be 1, 0, -1 or empty, got {row[name]!r}"):
            label_number(row, name, Path("t.csv"))


def test_missing_images_are_counted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert present_items([{"image": "a"}, None, None], Path("x/t.csv")) == [{"image": "a"}]
    assert "2 of 3 images that t.csv names are not on disk" in caplog.text
    with pytest.raises(DatalistError, match="got none of 1 under x"):
        present_items([None], Path("x/t.csv"))


def test_images_by_stem(tmp_path: Path) -> None:
    for name in ("b/x.png", "a/x.JPG", "a/y.dcm", "a/z.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert index_images(tmp_path) == {"x": tmp_path / "a/x.JPG", "y": tmp_path / "a/y.dcm"}
    assert set(index_images(tmp_path, "b/*")) == {"x"}


def test_json_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('\ufeff{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(DatalistError, match=r"a.json must be JSON, got text that is not"):
        read_json(tmp_path / "a.json")


def test_ages_and_sexes_of_tables() -> None:
    assert age_and_sex("68", "Male") == {"age": 68, "sex": "M"} and age_and_sex("057Y", "f") == {"age": 57, "sex": "F"}
    assert age_and_sex("40.0", None) == {"age": 40}
    for age, sex in (("0", "Unknown"), ("414", ""), ("x", "O"), (None, None)):
        assert age_and_sex(age, sex) == {}
