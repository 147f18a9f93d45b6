"""VinDr-RibCXR as a fixture tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.vindr_ribcxr import VINDR_RIBS, read_vindr_ribcxr


def test_outlines_by_rib(tmp_path: Path) -> None:
    for name in ("train", "val"):
        image = tmp_path / "data" / name / "img" / f"VinDr_RibCXR_{name}_000.png"
        image.parent.mkdir(parents=True)
        image.write_bytes(b"x")
        content = {
            "img": {"0": f"data/{name}/img/{image.name}", "1": "data/gone.png"},
            "R1": {"0": [{"x": 1.5, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y": 6}], "1": "None"},
            "L10": {"0": "None", "1": "None"},
        }
        (tmp_path / "data" / name / f"Vindr_RibCXR_{name}_mask.json").write_text(json.dumps(content))
    training, test = read_vindr_ribcxr(tmp_path)
    assert training["polygons"] == {"R1": [[1.5, 2], [3, 4], [5, 6]]}
    assert (training["split"], test["split"]) == ("training", "test")
    assert len(VINDR_RIBS) == 20 and VINDR_RIBS[9:11] == ["R10", "L1"]
    path = tmp_path / "data" / "train" / "Vindr_RibCXR_train_mask.json"
    path.write_text(json.dumps({"img": {"0": "a.png"}, "R1": {"0": [{"x": 1}]}}))
    with pytest.raises(DatalistError, match=r"rib R1 of image 0 in .* must be points with x and y"):
        read_vindr_ribcxr(tmp_path)
    path.write_text("[]")
    with pytest.raises(DatalistError, match="must map img and the ribs"):
        read_vindr_ribcxr(tmp_path)
