from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_anat.data import DatalistError
from monai_anat.data.preparation.journal import ShardWriter, npy_header, write_index, write_whole
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


def test_header_is_what_numpy_reads(tmp_path: Path) -> None:
    (tmp_path / "a.npy").write_bytes(npy_header(3) + b"abc")
    assert np.load(tmp_path / "a.npy").tobytes() == b"abc"


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
        ShardWriter(tmp_path / "mine", {}, 100)
    ShardWriter(tmp_path / "a", {"size": 4}, 100).close()
    with pytest.raises(DatalistError, match="size=4 then and 8 now"):
        ShardWriter(tmp_path / "a", {"size": 8}, 100)


def test_files_are_replaced_whole(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", b"1")
    write_whole(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2" and list(tmp_path.iterdir()) == [tmp_path / "a"]
