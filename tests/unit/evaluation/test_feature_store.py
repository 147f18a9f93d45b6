"""Feature store: persistence, several processes, and damaged files."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from monai_anat.evaluation.feature_store import DamagedFeaturesError, FeatureStore, image_key

WRITER = """
import sys
import numpy as np
from monai_anat.evaluation.feature_store import FeatureStore
store = FeatureStore(sys.argv[1], "maps")
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 200):
    if store.missing([str(number)]):
        store.append(str(number), np.full((4, 3), number))
        if number % 20 == 0:
            store.flush()
store.flush()
"""


def test_another_process_finds_what_was_flushed(tmp_path) -> None:
    store = FeatureStore(tmp_path, "maps")
    rows = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    for key, row in zip("ab", rows, strict=False):
        store.append(key, row)
    store.flush()
    store.append("c", rows[2])  # never flushed
    again = FeatureStore(tmp_path, "maps")
    assert again.missing(["a", "b", "c", "c"]) == ["c"]
    np.testing.assert_array_equal(again.read(["b", "a", "b"]), rows[[1, 0, 1]])
    again.append("c", rows[0])
    np.testing.assert_array_equal(again.read(["c"])[0], rows[0])
    assert len(again) == 3


def test_two_processes_that_write_at_the_same_time_lose_and_mix_nothing(tmp_path) -> None:
    commands = [[sys.executable, "-c", WRITER, str(tmp_path), start] for start in ("0", "100", "200")]
    running = [subprocess.Popen(command) for command in commands]
    assert [process.wait() for process in running] == [0, 0, 0]
    store = FeatureStore(tmp_path, "maps")
    keys = [str(number) for number in range(400)]
    assert store.missing(keys) == []
    np.testing.assert_array_equal(store.read(keys)[:, 0, 0], np.arange(400))


def test_two_writers_that_opened_the_empty_folder_keep_all_rows(tmp_path) -> None:
    """With one common file, the second index replaced the first, and rows came back wrong."""
    stores = [FeatureStore(tmp_path, "maps") for _ in range(2)]
    for number in range(10):
        stores[number % 2].append(str(number), np.full(4, number))
    for store in stores:
        store.flush()
    keys = [str(number) for number in range(10)]
    again = FeatureStore(tmp_path, "maps")
    assert again.missing(keys) == []
    np.testing.assert_array_equal(again.read(keys)[:, 0], np.arange(10))


def test_damaged_rows_are_missing_and_can_be_written_again(tmp_path) -> None:
    store = FeatureStore(tmp_path, "maps")
    for number in range(3):
        store.append(str(number), np.full(4, number))
    store.flush()
    (data,) = tmp_path.glob("*.bin")
    content = bytearray(data.read_bytes())
    content[20] ^= 1  # one bit of the second row
    data.write_bytes(content)
    for again in (FeatureStore(tmp_path, "maps"), store):
        with pytest.raises(DamagedFeaturesError, match=r"1 features .* are damaged"):
            again.read(["0", "1"])
        assert again.missing(["0", "1", "2"]) == ["1"]
        again.append("1", np.full(4, 1))
        again.flush()
        np.testing.assert_array_equal(again.read(["0", "1", "2"])[:, 0], [0, 1, 2])


@pytest.mark.parametrize("damage", ["index", "data"])
def test_unreadable_files_are_ignored(tmp_path, damage) -> None:
    store = FeatureStore(tmp_path, "maps")
    store.append("a", np.zeros(4))
    store.flush()
    (index,) = tmp_path.glob("*.json")
    file = index if damage == "index" else index.with_suffix(".bin")
    file.write_bytes(file.read_bytes()[:9])
    assert FeatureStore(tmp_path, "maps").missing(["a"]) == ["a"]


def test_the_index_contains_no_file_names(tmp_path) -> None:
    store = FeatureStore(tmp_path, "maps")
    store.append("/scans/MEIER_Anna.png 3 4", np.zeros(4))
    store.flush()
    assert all("MEIER" not in path.read_text() for path in tmp_path.glob("*.json"))


def test_wrong_shapes_and_keys_are_named(tmp_path) -> None:
    store = FeatureStore(tmp_path, "maps")
    store.append("a", np.zeros(3))
    with pytest.raises(ValueError, match=r"array must have the shape \(3,\)"):
        store.append("b", np.zeros(4))
    with pytest.raises(ValueError, match="key must be new, got 'a'"):
        store.append("a", np.zeros(3))
    with pytest.raises(KeyError, match="keys must be in the store"):
        store.read(["b"])


def test_an_edited_image_has_another_key(tmp_path) -> None:
    image = tmp_path / "case #1.png"
    image.write_bytes(b"one")
    first = image_key(image)
    assert first == image_key(str(image)) and "case #1.png" in first
    image.write_bytes(b"other")
    assert image_key(image) != first
    (tmp_path / "index.npy").write_bytes(b"")
    keys = {image_key(tmp_path / f"index.npy#{number}") for number in (1, 2)}
    assert len(keys) == 2
    assert json.dumps(sorted(keys)).count("index.npy") == 2
