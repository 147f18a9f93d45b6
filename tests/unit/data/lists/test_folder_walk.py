"""One walk finds images behind links, without endings, and behind odd names, and ends in circles."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from monai_anat.data import DatalistError, find_images, synthetic_radiograph
from monai_anat.data.lists.folder_walk import is_image_file, walk_folder
from monai_anat.data.preparation.candidates import iterate_candidates

MARK = bytes(128) + b"DICM"


def _found(root: Path) -> dict[str, str]:
    return {str(file.path.relative_to(root)): file.reason for file in walk_folder(root)}


@pytest.mark.parametrize(
    "name", ["CR.1.2.276.0.7230010.3.1.4.1", "DX_0001.v2", "1.2.840.113619.2.1.7", "IM0001", "a.txt", "IM.raw"]
)
def test_dicom_under_any_name(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(MARK)
    assert is_image_file(tmp_path / name)
    assert [Path(item["image"]).name for item in find_images(tmp_path)] == [name]


def test_content_decides_where_the_ending_does_not(tmp_path: Path, make_dicom: Callable[..., Path]) -> None:
    values = np.round(synthetic_radiograph(40)[0] * 4000).astype(np.uint16)
    whole = make_dicom(tmp_path / "whole", values).read_bytes()
    contents = {
        "no preamble": whole[132:],
        "implicit": bytes.fromhex("0800050004000000") + b"ISO ",
        "picture": b"\x89PNG\r\n\x1a\n",
        "text": b"\x08 not an element",
        "numbers": bytes(range(200)),
        "empty": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert [name for name in contents if is_image_file(tmp_path / name)] == ["no preamble", "implicit", "picture"]


def test_links_are_followed_once(tmp_path: Path) -> None:
    root, outside = tmp_path / "in", tmp_path / "outside"
    (root / ".annex").mkdir(parents=True)
    (outside / "deep").mkdir(parents=True)
    for path in (root / "a.png", root / ".annex" / "blob", outside / "deep" / "b.png", tmp_path / "c.png"):
        path.write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "again.png").symlink_to(root / "a.png")
    (root / "annexed.png").symlink_to(root / ".annex" / "blob")
    (root / "c.png").symlink_to(tmp_path / "c.png")
    (root / "c2.png").symlink_to(tmp_path / "c.png")
    (root / "gone.png").symlink_to(tmp_path / "none.png")
    (root / "circle.png").symlink_to(root / "circle.png")
    (root / "linked").symlink_to(outside)
    (root / "linked2").symlink_to(outside)
    (outside / "deep" / "up").symlink_to(outside)
    (root / "loop").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    found = _found(root)
    assert {name for name, reason in found.items() if not reason} == {
        "a.png", "annexed.png", "c.png", "linked/deep/b.png"
    }  # fmt: skip
    assert {name for name, reason in found.items() if "searched already" in reason} == {
        "linked2", "linked/deep/up", "loop", "above"
    }  # fmt: skip
    assert {name for name, reason in found.items() if "found already" in reason} == {"again.png", "c2.png"}
    assert {name for name, reason in found.items() if "nowhere or in a circle" in reason} == {"gone.png", "circle.png"}


def test_training_and_preparation_find_the_same_files(tmp_path: Path) -> None:
    for name in ("b.png", "1.2.3", "DX_0001.v2", "case #1/a.png", "test/c.png", "masks/b.png", "notes.txt", ".d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(MARK)
    (tmp_path / "notes.txt").write_text("x")
    trained = {item["image"] for item in find_images(tmp_path)}
    prepared = {candidate.path for candidate in iterate_candidates(tmp_path) if not candidate.reason}
    assert trained == prepared and len(trained) == 5


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DatalistError, match="must be an existing folder of images"):
        list(walk_folder(tmp_path / "none"))


def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(MARK)
    assert [file.path for file in walk_folder("~")] == [tmp_path / "a.png"]
