"""The store keeps arrays, row by row, and survives a process that stops."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.evaluation.feature_store import FeatureStore


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


def test_wrong_shapes_and_keys_are_named(tmp_path) -> None:
    store = FeatureStore(tmp_path, "maps")
    store.append("a", np.zeros(3))
    with pytest.raises(ValueError, match=r"array must have the shape \(3,\)"):
        store.append("b", np.zeros(4))
    with pytest.raises(ValueError, match="key must be new, got 'a'"):
        store.append("a", np.zeros(3))
    with pytest.raises(KeyError, match="keys must be in the store"):
        store.read(["b"])
