from __future__ import annotations

from monai_anat.data import read_radiograph, segmentation_datalist
from monai_anat.evaluation import case_pictures


def test_landmarks_and_clusters_are_drawn_on_their_radiographs(tmp_path):
    one, other = (item["image"] for item in segmentation_datalist("validation")[:2])
    height, width = read_radiograph(one).pixels.shape
    found = {
        "cases": {
            "best": {
                "score": 0.1,
                "source": {"image": one, "landmarks": [[height / 2, width / 2], None]},
                "target": {"image": other, "found": [[10.0, 10.0], None], "landmarks": [[20.0, 10.0], None]},
            }
        }
    }
    (picture,) = case_pictures(found, "ours")
    assert picture.caption == "ours: best case, 0.100; dots: found; rings: the truth"
    source, target = picture.figure.axes
    scale = min(1.0, 320 / max(height, width))
    assert [float(value) for value in source.lines[0].get_xydata()[0]] == [width / 2 * scale, height / 2 * scale]
    assert len(target.lines) == 3  # found, truth, and what lies between
    cells = {
        "cases": {"worst": {"score": 0.2, "image": one, "cells": [[0, 1], [2, 0]]}},
        "structure_names": ["-", "a", "b"],
        "metrics": {"iou": {"unit": "IoU"}},
    }
    cells["cases"]["best"] = {**cells["cases"]["worst"], "score": 0.9}
    (picture,) = case_pictures(cells)
    assert [axis.get_title() for axis in picture.figure.axes] == ["worst case, 0.200 IoU", "best case, 0.900 IoU"]


def test_without_files_or_cases_there_is_no_picture(tmp_path):
    gone = {
        "cases": {"best": {"score": 0.1, "image": str(tmp_path / "gone.png"), "cells": [[0]]}},
        "structure_names": [],
    }
    assert case_pictures(gone) == []
    assert case_pictures({"metrics": {}}) == []
    assert case_pictures({"cases": {"best": {"score": 1.0}}}) == []
