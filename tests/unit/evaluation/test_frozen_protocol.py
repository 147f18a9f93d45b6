"""All protocols on frozen features: form of the result, collapse, and missing data."""

from __future__ import annotations

import json

import pytest

from monai_anat.data import DatalistError
from monai_anat.evaluation import compare_results
from monai_anat.evaluation.frozen_protocol import FrozenProtocol
from monai_anat.evaluation.protocol import protocol_classes
from monai_anat.evaluation.results import Result

FROZEN = {name: kind for name, kind in protocol_classes().items() if issubclass(kind, FrozenProtocol)}
FAST = {"resamples": 20, "random_seed": None}
SMALL = {"co-segmentation": {"clusters": (3,), "restarts": 1}, "localizability": {"picture_points": 0, "window": 0.2}}


@pytest.fixture(scope="module")
def items(lungs):
    return [*lungs["training"], *lungs["test"]]


@pytest.mark.parametrize("name", FROZEN)
def test_results_have_one_form_and_compare(name, items, oracles) -> None:
    protocol: FrozenProtocol = FROZEN[name](**{**FAST, **SMALL.get(name, {})})
    result = protocol.run(oracles.bands(), items)
    assert Result.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result
    assert result.protocol == name
    assert result.n_patients == result.n_images == len(items)
    assert result.metrics
    for key, metric in result.metrics.items():
        better, unit = protocol.kinds[key.split("/")[0]]
        assert (metric.better, metric.unit) == (better, unit)
        if metric.value is None:
            assert metric.why
        else:
            assert metric.low <= metric.high
            assert len(metric.replicates) == 20
    assert set(result.comparisons) == set(result.baselines)
    assert set(result.cases) in ({"best", "median", "worst"}, set())
    assert all(found.difference == 0 for found in compare_results(result, result).values())
    assert protocol.run(oracles.bands(), items) == result, "the same every time"


@pytest.mark.parametrize("name", FROZEN)
def test_a_constant_encoder_is_flagged_and_has_no_score(name, items, oracles) -> None:
    result = FROZEN[name](**{**FAST, **SMALL.get(name, {})}).run(oracles.constant(), items)
    assert result.collapsed is True
    assert any("collapsed" in note.lower() for note in result.notes)
    if name == "collapse":
        assert result.metrics["effective_rank"].value == 0
    else:
        assert all(metric.value is None and "collapsed" in metric.why for metric in result.metrics.values())


def test_random_weights_stand_beside(items, oracles) -> None:
    result = FROZEN["collapse"](resamples=20).run(oracles.gray(), items)
    assert list(result.baselines) == ["random initialization"]


def test_more_images_than_allowed_are_drawn_by_seed(items) -> None:
    protocol = FROZEN["collapse"](max_images=4)
    chosen = protocol.select(items)
    assert len(chosen) == 4
    assert chosen == protocol.select(items)
    assert chosen != FROZEN["collapse"](max_images=4, seed=1).select(items)


def test_images_beyond_max_images_are_reported(items, oracles) -> None:
    result = FROZEN["collapse"](**FAST, max_images=4).run(oracles.noise(), items)
    assert result.notes[-1] == (
        f"4 of {len(items)} images are used, a random subset (seed 0); set max_images to use more."
    )
    result = FROZEN["landmarks"](**FAST, max_sources=3).run(oracles.bands(), items)
    assert any(
        note.startswith(f"The landmarks of 3 of {len(items)} images are searched in all others")
        for note in result.notes
    )


def test_too_little_data_is_named(items, oracles) -> None:
    protocol = FROZEN["collapse"]()
    with pytest.raises(DatalistError, match="at least one image for collapse, got none; name another split"):
        protocol.run(oracles.gray(), [])
    twice = [{**item, "patient": "same"} for item in items[:3]]
    with pytest.raises(DatalistError, match="at least 2 patients for collapse, got 3 images of 1"):
        protocol.run(oracles.gray(), twice)


def test_images_that_name_no_patient_are_counted(items, oracles) -> None:
    nameless = [{"image": item["image"]} for item in items[:2]]
    result = FROZEN["collapse"](**FAST).run(oracles.noise(), [*nameless, *items[2:]])
    assert result.notes == [f"2 of {len(items)} images name no 'patient', and each counts as a patient of its own."]


def test_a_label_that_is_no_mask_is_not_read_as_one(items, oracles) -> None:
    """Names of findings stand where other lists have the path of a mask."""
    named = [{**item, "label": "Edema|Mass"} for item in items]
    assert FROZEN["symmetry"](**FAST).run(oracles.bands(), named).metrics["gap"].value is not None
    for name in ("landmarks", "localizability", "co-segmentation"):
        with pytest.raises(DatalistError, match=rf"mask for {name}, got none among {len(items)} items"):
            FROZEN[name](**FAST).run(oracles.bands(), named)
    some = [*items, *({**item, "label": "Edema", "patient": "x"} for item in items[:2])]
    result = FROZEN["co-segmentation"](**FAST, **SMALL["co-segmentation"]).run(oracles.bands(), some)
    assert result.n_images == len(items)
    assert result.notes[-1] == f"2 of {len(some)} images are left out, which have no mask."
