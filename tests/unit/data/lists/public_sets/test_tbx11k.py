"""TBX11K as fixture trees of both layouts."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.public_sets.tbx11k import read_tbx11k


def _touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")


def test_official_lists(tmp_path: Path) -> None:
    names = ["health/h0001.png", "sick/s0001.png", "tb/tb0005.png", "test/t1.png"]
    for name in names:
        _touch(tmp_path / "imgs" / name)
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "TBX11K_train.txt").write_text("\n".join([*names[:2], "tb/gone.png"]))
    (tmp_path / "lists" / "TBX11K_trainval.txt").write_text("\n".join(names[:3]))
    (tmp_path / "lists" / "TBX11K_val.txt").write_text(names[2])
    (tmp_path / "lists" / "all_test.txt").write_text(names[3])
    items = read_tbx11k(tmp_path)
    assert [(item["split"], item.get("label"), item["patient"]) for item in items] == [
        ("training", 0, "h0001"), ("training", 1, "s0001"), ("validation", 2, "tb0005"), ("test", None, "t1")
    ]  # fmt: skip


def test_simplified_copy(tmp_path: Path) -> None:
    for name in ("h1.png", "tb1.png"):
        _touch(tmp_path / "images" / name)
    box = "\"{'xmin': 1.5, 'ymin': 2, 'width': 3, 'height': 4}\""
    (tmp_path / "data.csv").write_text(
        f"fname,bbox,target,image_type\nh1.png,none,no_tb,healthy\ntb1.png,{box},tb,tb\ntb1.png,{box},tb,tb\n"
    )
    healthy, tuberculosis = read_tbx11k(tmp_path)
    assert (healthy["label"], healthy["boxes"]) == (0, [])
    assert (tuberculosis["label"], tuberculosis["boxes"]) == (2, [[1.5, 2, 3, 4]] * 2)
    (tmp_path / "data.csv").write_text("fname,bbox,image_type\nh1.png,{'xmin': 1},healthy\n")
    with pytest.raises(DatalistError, match=r"bbox of .* must be none or a dict of"):
        read_tbx11k(tmp_path)
    (tmp_path / "data.csv").write_text("fname,bbox,image_type\nh1.png,none,ill\n")
    with pytest.raises(DatalistError, match=r"image_type of .* got 'ill' for h1.png"):
        read_tbx11k(tmp_path)
