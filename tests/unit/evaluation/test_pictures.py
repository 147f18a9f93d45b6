"""Figures of the cases of a result."""

from __future__ import annotations

import numpy as np

from monai_anat.data import read_radiograph, segmentation_datalist
from monai_anat.evaluation import Result, case_pictures
from monai_anat.evaluation.metric import Metric
from monai_anat.evaluation.pictures import case_captions, files_exist, is_file, point_array, small_radiograph


def test_landmarks_and_clusters_are_drawn_on_their_radiographs(tmp_path):
    one, other = (item["image"] for item in segmentation_datalist("validation")[:2])
    height, width = read_radiograph(one).pixels.shape
    case = {
        "score": 0.1,
        "source": {"image": one, "landmarks": [[height / 2, width / 2], None]},
        "target": {"image": other, "found": [[10.0, 10.0], None], "landmarks": [[20.0, 10.0], None]},
    }
    (picture,) = case_pictures(Result("landmarks", cases={"best": case}), "ours")
    assert picture.caption == "ours: best case, 0.100; dots: found; rings: ground truth"
    source, target = picture.figure.axes
    scale = min(1.0, 320 / max(height, width))
    assert [float(value) for value in source.lines[0].get_xydata()[0]] == [width / 2 * scale, height / 2 * scale]
    assert len(target.lines) == 3  # found, truth, and the line between them
    worst = {"score": 0.2, "image": one, "cells": [[0, 1], [2, 0]]}
    cells = Result(
        "co-segmentation",
        metrics={"iou": Metric(0.5, unit="IoU")},
        cases={"worst": worst, "best": {**worst, "score": 0.9}},
        extra={"structure_names": ["-", "a", "b"]},
    )
    (picture,) = case_pictures(cells)
    assert [axis.get_title() for axis in picture.figure.axes] == ["worst case, 0.200 IoU", "best case, 0.900 IoU"]


def test_without_files_or_cases_there_is_no_picture(tmp_path):
    gone = {"score": 0.1, "image": str(tmp_path / "gone.png"), "cells": [[0]]}
    for protocol in ("co-segmentation", "landmarks", "few-shot"):
        assert case_pictures(Result(protocol, cases={"best": gone}, extra={"structure_names": []})) == []
        assert case_pictures(Result(protocol)) == []


def test_files_may_carry_the_number_of_a_frame(tmp_path):
    (tmp_path / "a#b.png").write_text("")
    (tmp_path / "i.npy").write_text("")
    assert is_file(str(tmp_path / "a#b.png")) and is_file(str(tmp_path / "i.npy#3"))
    assert not is_file(str(tmp_path / "a"))
    assert not files_exist({"image": str(tmp_path)}, "image", "mask")


def test_radiographs_are_reduced_and_points_keep_their_gaps():
    image, scale = small_radiograph(segmentation_datalist("validation")[0]["image"])
    assert max(image.shape) <= 320 and 0 < scale <= 1
    assert np.isnan(point_array([None, [1.0, 2.0]])[0]).all()
    assert case_captions(Result("p", cases={"best": {"score": 0.5}})) == {"best": "best case, 0.500"}
