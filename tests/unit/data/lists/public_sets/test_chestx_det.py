"""ChestX-Det and ChestX-Det10 as fixture trees."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.chestx_det import CHESTX_DET_FINDINGS, read_chestx_det

SICK = {
    "file_name": "1.png",
    "syms": ["Mass", "Effusion"],
    "boxes": [[1, 2, 3, 4], [5, 6, 7, 8]],
    "polygons": [[[1, 2], [3, 4], [5, 6]], [[1, 1], [2, 2], [3, 1]]],
}
HEALTHY = {"file_name": "1.png", "syms": [], "boxes": []}


@pytest.mark.parametrize(("prefix", "folder"), [("ChestX_Det_", "{}_data"), ("", "{}")])
def test_both_layouts(tmp_path: Path, prefix: str, folder: str) -> None:
    for split, entry in (("train", SICK), ("test", HEALTHY)):
        (tmp_path / folder.format(split)).mkdir()
        (tmp_path / folder.format(split) / "1.png").write_bytes(b"x")
        (tmp_path / f"{prefix}{split}.json").write_text(json.dumps([entry, {**HEALTHY, "file_name": "gone.png"}]))
    sick, healthy = read_chestx_det(tmp_path)
    assert [CHESTX_DET_FINDINGS[i] for i in np.flatnonzero(sick["label"])] == ["Effusion", "Mass"]
    assert sick["findings"] == SICK["syms"] and sick["polygons"] == SICK["polygons"] and sick["split"] == "training"
    assert sum(healthy["label"]) == 0 and healthy["split"] == "test"
    assert Path(healthy["image"]).parent.name == folder.format("test")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**SICK, "boxes": [[1, 2, 3, 4]]}, "must be of one length, got 2, 1 and 2"),
        ({**SICK, "syms": ["Mass", "Rib"]}, r"got \['Rib'\] for 1.png"),
        ({"file_name": "1.png"}, "must have file_name, syms and boxes"),
        ("1.png", "must have file_name, syms and boxes"),
    ],
)
def test_entries_that_cannot_be(tmp_path: Path, entry: object, message: str) -> None:
    (tmp_path / "train.json").write_text(json.dumps([entry]))
    with pytest.raises(DatalistError, match=message):
        read_chestx_det(tmp_path)
