from __future__ import annotations

from monai_anat.handlers.bundle_references import reachable_ids, references_in, uses

CONFIG = {
    "rate": 1,
    "out": "out",
    "dead": "@rate",
    "train": {"data": "@images", "handlers": [{"folder": "$@out + '/x'"}, "@saver"], "unused": "@other"},
    "images": "$load(@folder)",
    "saver": {"net": "@net::inner"},
    "net": {"inner": "$a(@one, @two#three)"},
    "run": ["$@train#data.run()", "$@train::handlers"],
}


def test_references_are_found_at_any_depth():
    assert set(references_in(CONFIG["net"])) == {"one", "two#three"}
    assert list(references_in("an @address in a text")) == []


def test_what_runs_is_reached_through_everything_it_refers_to():
    reached = reachable_ids(CONFIG, ["run", "missing"])
    assert {"images", "folder", "out", "saver", "net#inner", "one", "two#three"} < reached
    assert uses(reached, "train#handlers#0#folder")
    assert uses(reached, "train")
    assert uses(reached, "net")
    for name in ("dead", "rate", "other", "train#unused", "net#outer"):
        assert not uses(reached, name), name


def test_a_circle_ends():
    assert reachable_ids({"a": "@b", "b": "@a"}, ["a"]) == {"a", "b"}
