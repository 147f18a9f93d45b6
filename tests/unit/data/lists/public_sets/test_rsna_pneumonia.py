"""RSNA Pneumonia Challenge as a fixture tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.rsna_pneumonia import RSNA_CLASSES, read_rsna_pneumonia

ROWS = ["a,Lung Opacity", "a,Lung Opacity", "b,Normal", "c,No Lung Opacity / Not Normal", "d,Normal"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    images = tmp_path / "stage_2_train_images"
    images.mkdir()
    for name in ("a.dcm", "b.dcm", "c.dcm"):
        (images / name).write_bytes(b"x")
    (tmp_path / "stage_2_detailed_class_info.csv").write_text("\n".join(["patientId,class", *ROWS]))
    (tmp_path / "stage_2_train_labels.csv").write_text(
        "patientId,x,y,width,height,Target\na,1.0,2.0,3.0,4.0,1\na,5,6,7,8,1\nb,,,,,0\nc,,,,,0\n"
    )
    return tmp_path


@pytest.mark.parametrize("header", [True, False])
def test_all_boxes_are_kept_and_rows_are_joined(root: Path, header: bool) -> None:
    if not header:
        (root / "stage_2_detailed_class_info.csv").write_text("\n".join(ROWS))
    items = {Path(item["image"]).stem: item for item in read_rsna_pneumonia(root)}
    assert list(items) == ["a", "b", "c"]
    assert [RSNA_CLASSES[item["label"]] for item in items.values()] == ["Lung Opacity", "Normal", RSNA_CLASSES[1]]
    assert items["a"]["boxes"] == [[1, 2, 3, 4], [5, 6, 7, 8]] and items["b"]["boxes"] == []
    assert items["a"]["patient"] == "a"


def test_persons_come_from_the_mappings(root: Path) -> None:
    entries = [
        {"subset_img_id": "a", "img_id": "00000123_004.png"},
        {"subset_img_id": "b", "img_id": "00000123_009.png"},
    ]
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text(json.dumps(entries))
    assert [item["patient"] for item in read_rsna_pneumonia(root)] == ["00000123", "00000123", "c"]
    (root / "pneumonia-challenge-dataset-mappings_2018.json").write_text("[{")
    with pytest.raises(DatalistError, match=r"mappings_2018.json must be JSON"):
        read_rsna_pneumonia(root)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,Pneumonia", "classes of .* must be one of .* got 'Pneumonia' for a"),
        ("b,Lung Opacity", "names two classes for b: 'Normal' and 'Lung Opacity'"),
    ],
)
def test_rows_that_cannot_be(root: Path, row: str, message: str) -> None:
    with (root / "stage_2_detailed_class_info.csv").open("a") as handle:
        handle.write(f"\n{row}\n")
    with pytest.raises(DatalistError, match=message):
        read_rsna_pneumonia(root)


def test_boxes_that_are_no_numbers(root: Path) -> None:
    (root / "stage_2_train_labels.csv").write_text("patientId,x,y,width,height,Target\na,1,2,three,4,1\n")
    with pytest.raises(DatalistError, match=r"boxes of .* must be four numbers"):
        read_rsna_pneumonia(root)
