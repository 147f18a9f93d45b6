"""Masks that training cannot use are named before the first step."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from monai_anat.data import (
    DatalistError,
    check_segmentation_list,
    load_datalist,
    radiograph_preprocessing,
    synthetic_radiograph,
)

CLASSES = ["background", "right lung", "left lung"]


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, np.ndarray]:
    pixels, lungs = synthetic_radiograph((96, 80))
    Image.fromarray((pixels * 255).astype(np.uint8)).save(tmp_path / "a.png")
    return tmp_path / "a.png", lungs


def _check(image: Path, label: Any, **arguments: Any) -> list[dict[str, Any]]:
    return check_segmentation_list([{"image": str(image), "label": label, "site": 3}], CLASSES, **arguments)


def _save(image: Path, name: str, values: np.ndarray, **options: Any) -> str:
    Image.fromarray(values).save(image.parent / name, **options)
    return str(image.parent / name)


def test_good_masks_pass_in_one_form(pair: tuple[Path, np.ndarray]) -> None:
    image, lungs = pair
    label = _save(image, "m.png", lungs)
    assert _check(image, label) == [{"image": str(image), "label": label, "patient": str(image)}]
    half = _save(image, "half.png", lungs[::2, ::2])
    assert _check(image, half)[0]["label"] == half, "masks at half the size have the same proportions"


def test_masks_per_side(pair: tuple[Path, np.ndarray]) -> None:
    image, lungs = pair
    sides = [_save(image, f"{side}.png", (lungs == n).astype(np.uint8) * 255) for n, side in ((1, "r"), (2, "l"))]
    (image.parent / "list.csv").write_text("image,left_mask,right_mask\na.png,l.png,r.png\n")
    items = check_segmentation_list(load_datalist(image.parent / "list.csv"), CLASSES)
    assert items[0]["label"] == sides
    chain = radiograph_preprocessing(80, label_key="label", crop=False)
    np.testing.assert_array_equal(chain(items[0])["label"][0], torch.as_tensor(lungs))


def test_masks_that_cannot_be_used_are_named(pair: tuple[Path, np.ndarray]) -> None:
    image, lungs = pair
    binary = ((lungs > 0) * 255).astype(np.uint8)
    cases: dict[str, tuple[np.ndarray, str]] = {
        "255.png": (binary, "must hold class numbers 0 to 2, got the values"),
        "lossy.jpg": (binary, "JPEG"),
        "float.tif": (lungs.astype(np.float32) / 3, "fractions"),
        "turned.png": (np.ascontiguousarray(lungs.T), "must have the size of its image"),
        "cut.png": (lungs[:50], "must have the size of its image"),
        "four.png": (lungs * 2, "got the values"),
        "empty.png": (lungs * 0, "must show at least one of"),
    }
    for name, (values, message) in cases.items():
        label = _save(image, name, values)
        with pytest.raises(DatalistError, match=message) as caught:
            _check(image, label)
        assert name in str(caught.value) or name == "empty.png"
    assert _check(image, str(image.parent / "255.png"), mask_values={"255": 1})


def test_items_that_differ_in_keys(pair: tuple[Path, np.ndarray], caplog: pytest.LogCaptureFixture) -> None:
    image, lungs = pair
    label = _save(image, "m.png", lungs)
    items = [
        {"image": str(image), "label": label, "patient": 7},
        {"image": str(image)},
        {"image": str(image), "label": label, "age": 3},
    ]
    with caplog.at_level(logging.WARNING):
        got = check_segmentation_list(items, [*CLASSES, "heart"], section="validation")
    assert [set(item) for item in got] == [{"image", "label", "patient"}] * 2
    assert "validation: 1 of 3 images have no mask and are left out" in caplog.text
    assert "validation: no mask of 2 shows heart" in caplog.text
    for items, message in (
        (
            [{"image": "a.png", "lung": "m.png"}],
            r"must have 'label', the path of a mask, .* got the keys \['image', 'l",
        ),
        ([{"image": "a.png", "label": 1}], "must be the path of a mask, .* got 1 for a.png in training"),
        ([{"image": "a.png", "label": ["m.png", None]}], r"got \['m.png', None\] for a.png"),
    ):
        with pytest.raises(DatalistError, match=message):
            check_segmentation_list(items, CLASSES)


def test_long_lists_are_sampled(pair: tuple[Path, np.ndarray], caplog: pytest.LogCaptureFixture) -> None:
    image, lungs = pair
    items = [{"image": str(image), "label": _save(image, "m.png", lungs)}] * 9
    with caplog.at_level(logging.WARNING):
        assert len(check_segmentation_list(items, CLASSES, most=3)) == 9
    assert "3 of 9 masks were checked" in caplog.text
