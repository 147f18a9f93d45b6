from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import DatalistError, find_images, load_datalist
from monai_anat.data.lists.datalists import load_splits, split_names
from monai_anat.data.lists.folder_names import patient_from_name
from monai_anat.data.lists.folder_walk import is_image_file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    for name in ("b_001.png", "a_002.png", "sub/a_003.jpg"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / name)  # blank is no mask
    (root / ".hidden.png").write_bytes(b"x")
    (root / "DICOMDIR").write_bytes(b"x")
    (root / "notes.txt").write_text("x")
    (root / "1.2.840.99").write_bytes(b"\0" * 128 + b"DICM")
    return root


def test_images_of_a_folder_in_order_without_strangers(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside.png").write_bytes(b"x")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    names = [str(Path(item["image"]).relative_to(folder.resolve())) for item in find_images(folder)]
    assert names == ["1.2.840.99", "a_002.png", "b_001.png", "link.png", "sub/a_003.jpg"]
    items = find_images(folder, r"([a-z])_\d")
    assert [item.get("patient") for item in items] == [None, "a", "b", None, "a"]
    assert is_image_file(folder / "1.2.840.99") and not is_image_file(folder / "nothing")


def test_folder_without_images_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DatalistError, match=r"got none in .*1 x \.txt"):
        find_images(tmp_path)
    with pytest.raises(DatalistError, match="existing folder"):
        find_images(tmp_path / "none")


def test_every_form_of_list_gives_the_same_items(folder: Path) -> None:
    names = ["a_002.png", "b_001.png"]
    expected = [str(folder / name) for name in names]
    lists = {
        "items.json": json.dumps({"training": [{"image": name} for name in names], "test": []}),
        "paths.json": json.dumps({"training": names}),
        "bare.json": json.dumps([{"image": name} for name in names]),
        "table.csv": "path,split\n" + "".join(f"{name},training\n" for name in names) + "sub/a_003.jpg,test\n",
        "table.tsv": "image\tpatient\n" + "".join(f"{name}\t7\n" for name in names),
    }
    for name, text in lists.items():
        (folder / name).write_text(text)
        assert [item["image"] for item in load_datalist(folder / name)] == expected, name
    assert load_datalist(folder / "table.tsv")[0]["patient"] == "7"
    assert [item["image"] for item in load_datalist(folder / "table.csv", "test")] == [str(folder / "sub/a_003.jpg")]
    assert [i["image"] for i in load_datalist([{"image": n} for n in names], base_dir=folder)] == expected
    assert load_datalist(folder / "paths.json", patient_pattern=r"^(\w)_")[1]["patient"] == "b"
    assert len(load_datalist(folder)) == 4
    (folder / "datalist.json").write_text(lists["items.json"])
    assert len(load_datalist(folder)) == 2


def test_masks_are_paths_and_class_labels_are_not(folder: Path) -> None:
    items = [{"image": "a_002.png", "label": "b_001.png"}, {"image": "a_002.png", "label": "effusion"}]
    first, second = load_datalist(items, base_dir=folder)
    assert first["label"] == str(folder / "b_001.png") and second["label"] == "effusion"


def test_lists_that_cannot_be_used_are_refused_in_a_sentence(folder: Path) -> None:
    (folder / "l.json").write_text(json.dumps({"training": [], "test": ["gone.png", "a_002.png", "lost.png"]}))
    (folder / "broken.json").write_text("{")
    (folder / "odd.csv").write_text("x,y\n1,2\n")
    (folder / "words.csv").write_text("image,split\na_002.png,val\nb_001.png,train\na_002.png,\n")
    (folder / "nameless.json").write_text(json.dumps({"training": [{"label": 1}]}))
    cases = [
        ("l.json", "training", "must hold at least one item"),
        ("l.json", "validation", "section must be one of"),
        ("l.json", "test", r"2 of 3 missing \(item 0: .*gone.png; item 2: .*lost.png"),
        ("broken.json", "training", "must be JSON"),
        ("odd.csv", "training", "must have a column"),
        (
            "words.csv",
            "training",
            r"one of \['train', 'val'\], the words in .*, got 'training'; write 'training' there",
        ),
        ("nameless.json", "training", "item 0 of .* must have 'image'"),
        ("notes.txt", "training", "folder, a .json"),
        ("none.json", "training", "must be an existing"),
    ]
    for name, section, message in cases:
        with pytest.raises(DatalistError, match=message):
            load_datalist(folder / name, section)


def test_patient_rule_without_a_group_takes_the_whole_match() -> None:
    assert patient_from_name("p12-x.png", r"p\d+") == "p12"
    assert patient_from_name("x", r"p\d+") is None


def test_all_splits_of_a_list_are_read(folder: Path, tmp_path: Path) -> None:
    names = [str(item["image"]) for item in find_images(folder)]
    path = tmp_path / "list.json"
    path.write_text(json.dumps({"training": names[:2], "test": [{"image": names[2]}], "labels": ["lung"], "empty": []}))
    splits = load_splits(path)
    assert {name: [item["image"] for item in items] for name, items in splits.items()} == {
        "training": names[:2],
        "test": names[2:3],
    }
    table = tmp_path / "list.csv"
    table.write_text(f"image,split\n{names[0]},test\n{names[1]},training\n{names[2]},training\n")
    assert {name: len(items) for name, items in load_splits(table).items()} == {"test": 1, "training": 2}
    table.write_text("image\n" + "\n".join(names))
    assert [*load_splits(table)] == [*load_splits(folder)] == ["training"]


def test_tables_as_office_programs_write_them(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("\ufeffimage;patient\r\nGröße.png;Müller\r\n".encode())
    (item,) = load_datalist(tmp_path / "a.csv", check_files=False)
    assert item == {"image": str(tmp_path / "Größe.png"), "patient": "Müller"}
    (tmp_path / "b.csv").write_bytes("image;patient\r\nGröße.png;Müller\r\n".encode("latin-1"))
    with pytest.raises(DatalistError, match="UTF-8"):
        load_datalist(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_bytes(b"image,patient\n\x00,1\n")
    with pytest.raises(DatalistError):
        load_datalist(tmp_path / "c.csv")
    (tmp_path / "d.json").write_bytes('\ufeff["Größe.png"]'.encode())
    assert load_datalist(tmp_path / "d.json", check_files=False)[0]["image"].endswith("Größe.png")


@pytest.mark.parametrize("item", [5, None, ["a.png", "b.png"]])
def test_an_item_that_is_none_is_named(tmp_path: Path, item: object) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"training": ["a.png", item]}))
    with pytest.raises(DatalistError, match="item 1 of"):
        load_datalist(tmp_path / "a.json", check_files=False)


def test_a_tilde_in_a_name_is_a_letter(tmp_path: Path) -> None:
    names = ["~nobody.png", "~$scan.png", "a~.png"]
    assert [Path(item["image"]).name for item in load_datalist(names, check_files=False)] == names
    assert load_datalist(["~/a.png"], check_files=False)[0]["image"] == str(Path.home() / "a.png")


def test_links_in_a_circle_and_pipes_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "circle.png").symlink_to(tmp_path / "circle.png")
    os.mkfifo(tmp_path / "pipe")
    assert "a.png" in {Path(item["image"]).name for item in find_images(tmp_path)}
    assert not is_image_file(tmp_path / "pipe")


def test_names_of_the_splits(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"labels": ["lung"], "training": ["a.png"], "other": ["b.png"]}))
    (tmp_path / "b.json").write_text('["a.png"]')
    (tmp_path / "c.csv").write_text("image,split\na.png,test\nb.png,\n")
    assert [split_names(tmp_path / name) for name in ("a.json", "b.json", "c.csv", "none.csv")] == [
        ["training", "other"], [], ["test"], []
    ]  # fmt: skip


def test_a_table_may_call_patient_and_split_as_offices_do(tmp_path):
    """An unread column would make every image a patient of its own, and every row a part of every split."""
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).touch()
    rows = ("a.png;7;training", "b.png;7;training", "c.png;8;test")
    for number, header in enumerate(("image;Patient ID;Split", "image;patient_id;SPLIT", "image;SubjectID;split")):
        table = tmp_path / f"{number}.csv"
        table.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8-sig")
        assert split_names(table) == ["test", "training"]
        assert [item["patient"] for item in load_datalist(table)] == ["7", "7"]
        assert [item["patient"] for item in load_datalist(table, "test")] == ["8"]


def test_masks_per_side_in_columns_and_lists(folder: Path) -> None:
    (folder / "a.csv").write_text("image,Left Mask,right_mask\na_002.png,b_001.png,sub/a_003.jpg\nb_001.png,,\n")
    first, second = load_datalist(folder / "a.csv")
    assert first["label"] == [str(folder / "sub/a_003.jpg"), str(folder / "b_001.png")] and "label" not in second
    (folder / "a.json").write_text(json.dumps([{"image": "a_002.png", "label": ["b_001.png", "sub/a_003.jpg"]}]))
    assert load_datalist(folder / "a.json")[0]["label"] == [str(folder / "b_001.png"), str(folder / "sub/a_003.jpg")]
    (folder / "b.csv").write_text("image,left_mask,right_mask\na_002.png,b_001.png,\n")
    with pytest.raises(DatalistError, match=r"item 0 of .* must have both of \['right_mask', 'left_mask'\]"):
        load_datalist(folder / "b.csv")
    (folder / "c.json").write_text(json.dumps([{"image": "a_002.png", "label": ["b_001.png", "gone.png"]}]))
    with pytest.raises(DatalistError, match=r"1 of 1 missing \(item 0: .*gone.png"):
        load_datalist(folder / "c.json")
    classes = [{"image": "a_002.png", "label": [0, 1]}, {"image": "a_002.png", "label": ["edema", "mass"]}]
    assert [item["label"] for item in load_datalist(classes, base_dir=folder)] == [[0, 1], ["edema", "mass"]]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_lists_leave_their_folder_on_purpose_only(folder: Path, form: str) -> None:
    inside, climbing = "sub/../a_002.png", "../images/../outside.png"
    absolute = str(folder.parent / "outside.png")
    Path(absolute).write_bytes(b"x")
    refused = {"never": {climbing, absolute}, "absolute": {climbing}, "always": set()}
    for outside, names in refused.items():
        for name in (inside, climbing, absolute, str(folder / "a_002.png")):
            path = folder / f"list.{form}"
            path.write_text(json.dumps([name]) if form == "json" else f"image\n{name}\n")
            if name in names:
                with pytest.raises(DatalistError, match=r"item 0 of .* leaves the folder .* by .*; write"):
                    load_datalist(path, outside=outside)  # type: ignore[arg-type]
            else:
                assert len(load_datalist(path, outside=outside)) == 1  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="outside must be"):
        load_datalist(folder, outside="no")  # type: ignore[arg-type]
    assert len(load_datalist([climbing], base_dir=folder)) == 1, "Python code names what it means"


def test_a_list_may_name_images_of_the_folder_beside_its_own_and_no_further(tmp_path: Path) -> None:
    for name in ("data/lists", "data/images", "private"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "a.png").write_bytes(b"x")
    path = tmp_path / "data" / "lists" / "list.json"
    path.write_text('["../images/a.png"]')
    assert len(load_datalist(path)) == 1
    with pytest.raises(DatalistError, match="leaves the folder"):
        load_datalist(path, outside="never")
    path.write_text('["../../private/a.png"]')
    with pytest.raises(DatalistError, match=r"leaves the folder .* by '../../private/a.png'; write"):
        load_datalist(path)


def test_home_and_bad_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"x")
    (tmp_path / "a.json").write_text('["a.png"]')
    assert load_datalist("~/a.json") == load_datalist(["a.png"], base_dir="~") == [{"image": str(tmp_path / "a.png")}]
    assert load_splits("~/a.json") == {"training": [{"image": str(tmp_path / "a.png")}]}
    with pytest.raises(DatalistError, match="patient_pattern must be a regular expression"):
        load_datalist("~/a.json", patient_pattern="(")


def test_a_long_list_of_missing_files_stops_early(tmp_path: Path) -> None:
    """A million were looked for and remembered."""
    (tmp_path / "a.json").write_text(json.dumps([f"{number}.png" for number in range(50)]))
    with pytest.raises(DatalistError, match=r"got 6 of the first 6 missing \(item 0: .*; \.\.\.\)"):
        load_datalist(tmp_path / "a.json")


def test_packed_tables_and_column_names_in_capitals(folder: Path) -> None:
    (folder / "a.csv.gz").write_bytes(gzip.compress(b"Image ;Split\n a_002.png ;test\nb_001.png;training\n"))
    assert split_names(folder / "a.csv.gz") == ["test", "training"]
    assert [item["image"] for item in load_datalist(folder / "a.csv.gz", "test")] == [str(folder / "a_002.png")]
