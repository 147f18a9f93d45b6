"""Symmetry probe on encoders with and without knowledge of the side."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_anat.evaluation import SymmetryProbe

FAST = {"resamples": 50, "random_seed": None}


@pytest.fixture(scope="module")
def two_sided(tmp_path_factory):
    """The left side is brighter than the right one; the midline is in between."""
    folder = tmp_path_factory.mktemp("sides")
    items = []
    for number in range(4):
        image = np.full((48, 48), 77, np.uint8)
        image[:, 16:32] = 153
        image[:, 32:] = 255
        image[number * 3 : number * 3 + 8] = 0
        Image.fromarray(image).save(folder / f"{number}.png")
        places = {"right lung": [40, 6], "left lung": [40, 41]}
        items.append({"image": str(folder / f"{number}.png"), "patient": number, "landmarks": places})
    return items


def test_an_encoder_that_tells_the_sides_apart(two_sided, oracles) -> None:
    metrics = SymmetryProbe(**FAST).run(oracles.bands(), two_sided).metrics
    assert metrics["midline"].value > 0.95
    assert metrics["lateral"].value < 0.5
    assert metrics["gap"].value > 0.5
    assert metrics["same_anatomy"].value > 0.99
    assert metrics["side_told"].value > 0.7
    assert metrics["landmarks/right"].value < 0.2


def test_masks_that_tell_no_side_leave_out_the_landmarks_only(two_sided, oracles, tmp_path) -> None:
    Image.fromarray(np.full((48, 48), 255, np.uint8)).save(tmp_path / "mask.png")
    items = [{"image": i["image"], "patient": i["patient"], "label": str(tmp_path / "mask.png")} for i in two_sided]
    result = SymmetryProbe(**FAST).run(oracles.bands(), items)
    assert result.metrics["gap"].value > 0.5
    assert not any(name.startswith("landmarks") for name in result.metrics)
    assert result.notes[0].startswith("There are no cosines at landmarks: ")


def test_position_alone_sees_no_mirror(two_sided, oracles) -> None:
    metrics = SymmetryProbe(**FAST).run(oracles.place(), two_sided).metrics
    assert metrics["lateral"].value == pytest.approx(1)
    assert metrics["midline"].value == pytest.approx(1)
    assert metrics["side_told"].value == 0
    assert metrics["landmarks/left"].value == pytest.approx(1)


def test_images_without_landmarks_will_do(ramps, oracles) -> None:
    metrics = SymmetryProbe(**FAST).run(oracles.gray(), ramps).metrics
    assert not [name for name in metrics if name.startswith("landmarks")]


def test_landmarks_of_some_images_are_theirs_alone(two_sided, oracles) -> None:
    bare = [{key: item[key] for key in ("image", "patient")} for item in two_sided[:2]]
    whole, part = (
        SymmetryProbe(**FAST).run(oracles.bands(), items).metrics for items in (two_sided, [*bare, *two_sided[2:]])
    )
    assert part["landmarks/right"].n_patients == 2
    assert part["gap"].value == whole["gap"].value
