"""Tables and JSON lists as office programs and archives write them."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from monai_anat.data import DatalistError
from monai_anat.data.lists.tables import (
    is_table,
    iterate_json_items,
    iterate_json_sections,
    iterate_table,
    table_columns,
)

ROWS = [{"image": "a.png", "view": "PA"}, {"image": "b c.png"}]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("packed", [False, True])
def test_every_form_of_a_table_gives_the_same_rows(
    tmp_path: Path, mark: str, ending: str, bom: bytes, packed: bool
) -> None:
    lines = [f" image {mark}view{mark}", f"a.png{mark} PA {mark}", f'"b c.png"{mark}  {mark}', mark * 2, ""]
    content = bom + ending.join(lines).encode()
    path = tmp_path / ("t.csv.gz" if packed else "t.csv")
    path.write_bytes(gzip.compress(content) if packed else content)
    assert list(iterate_table(path, ["image", "view"])) == ROWS
    assert table_columns(path) == ["image", "view", ""] and is_table(path)


def test_tables_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    whole = gzip.compress(b"image,view\n" + b"a.png,PA\n" * 5000)
    contents = {
        "cut.csv.gz": (whole[: len(whole) // 2], "is truncated or damaged"),
        "flipped.csv.gz": (whole[:40] + bytes([whole[40] ^ 255]) + whole[41:], "is truncated or damaged"),
        "plain.csv.gz": (b"image,view\na.png,PA\n", "is truncated or damaged"),
        "latin.csv": ("image,größe\nä.png,1\n".encode("latin-1"), "must be CSV in UTF-8"),
        "other.csv": (
            b"file,view\na.png,PA\n",
            r"must have the columns \['image'\], got the columns \['file', 'view'\]",
        ),
    }
    for name, (content, message) in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DatalistError, match=message) as caught:
            list(iterate_table(tmp_path / name, ["image"]))
        assert name in str(caught.value)
    with pytest.raises(DatalistError, match="must be an existing file"):
        list(iterate_table(tmp_path / "none.csv"))


def test_a_table_without_rows_has_columns(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("image,view\n")
    (tmp_path / "b.csv").write_text("")
    assert list(iterate_table(tmp_path / "a.csv")) == list(iterate_table(tmp_path / "b.csv")) == []
    assert table_columns(tmp_path / "a.csv") == ["image", "view"]
    with pytest.raises(DatalistError, match="must have the columns"):
        list(iterate_table(tmp_path / "a.csv", ["patient"]))


CONTENTS = [
    {"training": ["a", {"b": [1, 2]}], "n": 3, "test": [], "names": {"x": [1]}},
    ["a", {"image": "b"}],
    {"training": [[], [[]], "]", "}"], "é\\": [1]},
    {},
    [],
]


@pytest.mark.parametrize("content", CONTENTS)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_is_read_item_by_item_as_at_once(tmp_path: Path, content: object, indent: int | None) -> None:
    path = tmp_path / "a.json"
    path.write_text("\ufeff" + json.dumps(content, indent=indent) + "\n")
    expected = content.items() if isinstance(content, dict) else [(None, content)]
    found = [(name, list(items)) for name, items in iterate_json_sections(path)]
    assert found == [(name, items) for name, items in expected if isinstance(items, list)]
    assert [name for name, _ in iterate_json_sections(path)] == [name for name, _ in found], "unread items are skipped"


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[",
        "[1",
        "[1,]",
        "[1 2]",
        '{"a"}',
        '{"a": [1}',
        '{"a": 1,}',
        "[] []",
        '{"a": []} x',
        "",
        "x",
        '{"a": [1,]}',
    ],
)
def test_text_that_is_not_json_is_refused_as_by_the_library(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(json.JSONDecodeError):
        json.loads(text)
    with pytest.raises(DatalistError, match=r"a.json must be JSON, got text that is not"):
        for _, items in iterate_json_sections(path):
            list(items)


def test_sections_that_are_not_there(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"training": [1], "x": 2}')
    assert list(iterate_json_items(tmp_path / "a.json", "training")) == [1]
    with pytest.raises(DatalistError, match=r"section must be one of \['training'\] of .*, got 'x'"):
        list(iterate_json_items(tmp_path / "a.json", "x"))
    (tmp_path / "b.json").write_text("3")
    with pytest.raises(DatalistError, match=r"section must be one of \[\]"):
        list(iterate_json_items(tmp_path / "b.json", "x"))
