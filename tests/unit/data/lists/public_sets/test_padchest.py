"""PadChest as a fixture tree."""

from __future__ import annotations

import gzip
from pathlib import Path

from monai_anat.data.lists.public_sets.padchest import read_padchest


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_padchest(tmp_path: Path) -> None:
    for name in ("0/a.png", "b.png", "c.png"):
        _touch(tmp_path / name)
    with gzip.open(tmp_path / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv.gz", "wt") as handle:
        handle.write("ImageID,ImageDir,PatientID,Projection\na.png,0,7,PA\nb.png,1,8,L\nc.png,1,9,COSTAL\n")
    assert [(i["patient"], i["view"]) for i in read_padchest(tmp_path)] == [
        ("7", "PA"),
        ("8", "LATERAL"),
        ("9", "COSTAL"),
    ]
