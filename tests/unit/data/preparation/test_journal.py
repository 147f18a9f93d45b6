from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_anat.data import DatalistError
from monai_anat.data.preparation.journal import ShardWriter, check_folder, taken_before, write_index
from monai_anat.data.preparation.prepare_one import Outcome
from monai_anat.data.reading.shards import open_index, shard_view


def _outcome(number: int, value: int | None = None) -> Outcome:
    pixels = np.full((4, 5), number if value is None else value, np.uint8)
    record: dict[str, Any] = {
        "height": 4, "width": 5, "original_height": 8, "original_width": 10, "spacing": (0.1, 0.1), "kind": "png",
        "view": "PA", "position": number, "pixels": f"{pixels[0, 0]:032d}", "patient_known": True, "grown": False,
        "label": None, "split": "", "group": "g",
    }  # fmt: skip
    return Outcome(number, f"source {number}", "", pixels, record, np.full((16, 16), number, np.uint8))


def _finish(writer: ShardWriter) -> None:
    writer.close()
    write_index(writer, ["g"] * writer.written, ["training"] * writer.written)


def test_shards_hold_what_was_added_and_repeats_are_set_aside(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, {"size": 4}, shard_bytes=50)
    for number in range(5):
        writer.add(_outcome(number))
    writer.add(_outcome(9, value=2))
    writer.add(Outcome(10, "source 10", "broken"))
    _finish(writer)
    assert sorted(path.name for path in tmp_path.glob("shard-*")) == [
        "shard-00000.npy",
        "shard-00001.npy",
        "shard-00002.npy",
    ]
    assert [int(shard_view(tmp_path, row)[0, 0]) for row in range(5)] == list(range(5))
    assert np.load(tmp_path / "shard-00000.npy").shape == (40,)
    reasons = [line["reason"] for line in writer.lines() if "reason" in line]
    assert reasons == ["the same pixels as the file at position 2", "broken"]
    assert writer.thumbnails()[:, 0, 0].tolist() == list(range(5))


@pytest.mark.parametrize("damage", ["half line", "bytes beyond", "nothing"])
def test_a_run_that_was_cut_off_goes_on_without_a_trace(tmp_path: Path, damage: str) -> None:
    writer = ShardWriter(tmp_path, {"size": 4}, shard_bytes=50)
    for number in range(3):
        writer.add(_outcome(number))
    writer.flush()
    writer.abandon()
    if damage == "half line":
        with (tmp_path / ".prepare" / "journal.jsonl").open("a") as handle:
            handle.write('{"source": "source 3", "pos')
    if damage == "bytes beyond":
        with (
            (tmp_path / "shard-00001.npy").open("ab") as data,
            (tmp_path / ".prepare" / "thumbnails.u8").open("ab") as small,
        ):
            data.write(b"x" * 33)
            small.write(b"x" * 100)
    writer = ShardWriter(tmp_path, {"size": 4}, shard_bytes=50)
    assert writer.done == {"source 0", "source 1", "source 2"} and writer.written == 3
    for number in range(3, 5):
        writer.add(_outcome(number))
    _finish(writer)
    assert len(open_index(tmp_path)) == 5
    assert [int(shard_view(tmp_path, row)[3, 4]) for row in range(5)] == list(range(5))
    assert writer.thumbnails()[:, 0, 0].tolist() == list(range(5))


def test_folders_that_are_not_ours_and_other_arguments_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    with pytest.raises(DatalistError, match="new or empty folder"):
        check_folder(tmp_path / "mine", {})
    with pytest.raises(DatalistError, match="must be a folder, got the file"):
        check_folder(tmp_path / "mine" / "thesis.txt", {})
    ShardWriter(tmp_path / "a", {"size": 4, "source_hash": "1", "key_file_hash": "2"}, 100).close()
    with pytest.raises(DatalistError, match=r"size=4 then, 8 now, another source\)"):
        check_folder(tmp_path / "a", {"size": 8, "source_hash": "2", "key_file_hash": "2"})
    with pytest.raises(DatalistError, match=r"arguments \(another key_file\)"):
        check_folder(tmp_path / "a", {"size": 8, "source_hash": "2", "key_file_hash": "3"})
    (tmp_path / "a" / ".prepare" / "settings.json").write_text("{")
    with pytest.raises(DatalistError, match=r"settings.json is damaged"):
        check_folder(tmp_path / "a", {})


def test_damage_to_the_journal_or_a_shard_is_found_before_more_is_added(tmp_path: Path) -> None:
    for name in ("journal", "shard", "thumbnails"):
        writer = ShardWriter(tmp_path / name, {"size": 4}, shard_bytes=1000)
        for number in range(3):
            writer.add(_outcome(number))
        writer.close()
    journal = tmp_path / "journal" / ".prepare" / "journal.jsonl"
    assert taken_before(tmp_path / "journal") == {"source 0", "source 1", "source 2"}
    content = bytearray(journal.read_bytes())
    content[content.index(b"source 1") + 7] ^= 2
    journal.write_bytes(content)
    with pytest.raises(DatalistError, match=r"line 2 of .*journal.jsonl is damaged"):
        ShardWriter(tmp_path / "journal", {"size": 4}, 1000)
    shard = tmp_path / "shard" / "shard-00000.npy"
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(DatalistError, match=r"shard-00000.npy is damaged: it has 187 of the 188 bytes"):
        ShardWriter(tmp_path / "shard", {"size": 4}, 1000)
    small = tmp_path / "thumbnails" / ".prepare" / "thumbnails.u8"
    small.write_bytes(b"")
    with pytest.raises(DatalistError, match=r"thumbnails.u8 is damaged"):
        ShardWriter(tmp_path / "thumbnails", {"size": 4}, 1000)


def test_the_file_that_an_unfinished_run_was_reading_is_suspect(tmp_path: Path) -> None:
    writer = ShardWriter(tmp_path, {"size": 4}, 1000)
    assert writer.suspect is None
    writer.begin("source 7")
    writer.abandon()
    writer = ShardWriter(tmp_path, {"size": 4}, 1000)
    assert writer.suspect == "source 7"
    writer.add(_outcome(0))
    writer.close()
    writer = ShardWriter(tmp_path, {"size": 4}, 1000)
    assert writer.suspect is None
    writer.close()
