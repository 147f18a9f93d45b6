"""Protocols on class labels."""

from __future__ import annotations

import json

import pytest

from monai_anat.data import DatalistError
from monai_anat.evaluation import LinearProbe
from monai_anat.evaluation.class_protocol import ClassProtocol, label_names
from monai_anat.evaluation.protocol import protocol_classes


def test_class_names_come_from_the_datalist_unless_given(tmp_path) -> None:
    path = tmp_path / "datalist.json"
    path.write_text(json.dumps({"label_names": ["a", "b"], "test": []}))
    assert label_names(path) == label_names(tmp_path) == ["a", "b"]
    assert LinearProbe.create({}, tmp_path, tmp_path).class_names == ["a", "b"]
    assert LinearProbe.create({"class_names": ["c"]}, tmp_path, tmp_path).class_names == ["c"]
    path.write_text(json.dumps({"test": []}))
    assert label_names(path) is None
    assert label_names(tmp_path / "table.csv") is None


def test_all_of_them_need_three_sections() -> None:
    found = [kind for kind in protocol_classes().values() if issubclass(kind, ClassProtocol)]
    assert len(found) == 3
    assert all(kind.sections == ("training", "validation", "test") for kind in found)


def test_lists_are_checked_before_anything_is_computed(oracles) -> None:
    items = [{"image": "gone.png", "label": 0, "patient": "a"}]
    with pytest.raises(DatalistError, match="validation must hold at least one image for linear, got none"):
        LinearProbe().check(oracles.noise(), items, [], items)
    with pytest.raises(DatalistError, match="one split only"):
        LinearProbe().check(oracles.noise(), items, [{**items[0], "patient": "b"}], items)
