"""Mixtures of lists."""

from __future__ import annotations

import pytest

from monai_anat.data import mix_datalists


def test_mixtures_have_their_shares() -> None:
    sources = {
        name: [{"image": f"{name}{i}", "patient": f"{name}{i}"} for i in range(n)] for name, n in (("a", 90), ("b", 10))
    }
    assert len(mix_datalists(sources)) == 100
    mixed = mix_datalists(sources, {"a": 1, "b": 1}, seed=1)
    count = {name: sum(item["source"] == name for item in mixed) for name in sources}
    assert count == {"a": 50, "b": 50}
    assert {item["image"] for item in mixed if item["source"] == "b"} == {f"b{i}" for i in range(10)}
    assert mixed == mix_datalists(sources, {"a": 1, "b": 1}, seed=1) != mix_datalists(sources, {"a": 1, "b": 1}, seed=2)
    assert len(mix_datalists(sources, {"a": 3, "b": 1}, length=7)) == 7
    for weights in ({"a": 1}, {"a": 1, "b": 0}):
        with pytest.raises(ValueError, match="weights must be positive"):
            mix_datalists(sources, weights)
    with pytest.raises(ValueError, match="got none in 'a'"):
        mix_datalists({"a": []}, {"a": 1}, length=3)
