"""Few-shot protocol over numbers of labels, and case series."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import DatalistError
from monai_anat.evaluation import FewShotCurve, FewShotSegmentation, Result, case_pictures, compare_results

FAST = {
    "steps": 25,
    "seeds": (0, 1, 2),
    "learning_rates": (1e-2,),
    "decoder_features": 16,
    "precision": "fp32",
    "progress": False,
}


def test_an_encoder_that_knows_segments_from_few_labels(lungs, oracles, tmp_path) -> None:
    curve = FewShotCurve(
        shots=(1, 3), modes=("frozen",), few_shot=FAST, least_patients=4, resamples=50, output_dir=tmp_path
    )
    result = curve.run(oracles.bands(), lungs["training"], lungs["validation"], lungs["test"])
    assert Result.from_json(json.loads(json.dumps(result.to_json(), allow_nan=False))) == result
    metric = result.metrics["dice/3 labels, frozen"]
    assert metric.value > 0.6
    assert metric.low < metric.value < metric.high
    assert result.metrics["hd95/right lung/1 label, frozen"].better == "lower"
    both = [result.metrics[f"dice/{side} lung/3 labels, frozen"].value for side in ("right", "left")]
    assert metric.value == pytest.approx(np.mean(both))
    assert list(result.baselines) == ["scratch"]
    assert result.extra["n_draws"] == 3
    hd95 = result.metrics["hd95/right lung/3 labels, frozen"]
    raw = json.loads((tmp_path / "3_frozen" / "few_shot.json").read_text())["arms"]["pre-trained"]["draws"]
    pixels = np.nanmean([draw["by_structure"]["right lung"]["hd95"] for draw in raw])
    assert (hd95.value, hd95.unit) == (pytest.approx(pixels / 48), "image sides")
    assert compare_results(result, result)["dice/3 labels, frozen"].difference == 0
    assert (tmp_path / "3_frozen" / "few_shot_masks.npz").is_file()
    assert result.cases["worst"]["score"] <= result.cases["best"]["score"]
    (picture,) = case_pictures(result)
    assert [axis.get_title()[:4] for axis in picture.figure.axes] == ["best", "medi", "wors"]


def test_fewer_than_three_draws_have_no_interval_and_put_nobody_ahead(lungs, oracles) -> None:
    few = {**FAST, "steps": 2, "seeds": (0, 1)}
    splits = [lungs[name] for name in ("training", "validation", "test")]
    curve = FewShotCurve(shots=(1,), modes=("frozen",), few_shot=few, least_patients=4, resamples=50)
    result = curve.run(oracles.bands(), *splits)
    metric = result.metrics["dice/1 label, frozen"]
    assert (metric.low, metric.why) == (None, "an interval needs at least 3 draws of training images, got 2")
    zero = {name: replace(entry, value=0.0) for name, entry in result.metrics.items()}
    other = replace(result, metrics=zero)
    difference = compare_results(result, other)["dice/1 label, frozen"]
    assert (difference.low, difference.ahead) == (None, None)
    assert difference.difference == metric.value


def test_without_numbers_it_takes_those_that_there_are(lungs, oracles) -> None:
    splits = [lungs[name] for name in ("training", "validation", "test")]
    assert list(FewShotCurve(few_shot=FAST).check(oracles.bands(), *splits)[3].values()) == [1, 3, 6]


def test_a_share_of_the_labels_is_so_many_labels(lungs, oracles) -> None:
    few = {**FAST, "steps": 2, "seeds": (0,)}
    curve = FewShotCurve(shots=(3,), fractions=(0.5, 1.0), modes=("frozen",), few_shot=few, resamples=50, scratch=False)
    result = curve.run(oracles.bands(), lungs["training"], lungs["validation"], lungs["test"])
    assert result.extra["n_labels"] == {"3 labels": 3, "50% of labels": 3, "100% of labels": 6}
    half, three = (result.metrics[f"dice/{name}, frozen"] for name in ("50% of labels", "3 labels"))
    assert half.value == three.value
    with pytest.raises(ValueError, match=r"fractions must be in \(0, 1\], got \[1.5\]"):
        FewShotCurve(fractions=(1.5,))


def test_a_frozen_encoder_stays_and_a_fine_tuned_one_moves(lungs, gray_bands) -> None:
    for is_frozen in (True, False):
        protocol = FewShotSegmentation(image_size=48, mean=0.0, std=1.0, frozen=is_frozen, **{**FAST, "steps": 3})
        encoder = gray_bands()
        protocol.compare({"a": lambda one=encoder: one}, lungs["training"], lungs["validation"], lungs["test"])
        assert (encoder.weight.item() == 1.0) == is_frozen


def test_overlapping_structures_are_a_case_series(lungs, oracles, tmp_path) -> None:
    splits = []
    for name in ("training", "validation", "test"):
        items = []
        for item in lungs[name]:
            mask = np.array(Image.open(item["label"]))
            bits = (mask == 1) + 2 * (mask == 2) + 4 * (mask > 0)  # the third structure covers the other two
            path = tmp_path / item["label"].rsplit("/", 1)[-1]
            Image.fromarray(bits.astype(np.uint8)).save(path)
            items.append({**item, "label_multi": str(path)})
        splits.append(items)
    splits[0].append({"image": "elsewhere.png", "patient": "x", "label": "elsewhere.png"})
    names = ["background", "right lung", "left lung", "both"]
    few = {**FAST, "seeds": (0,), "overlapping": True, "label_key": "label_multi", "class_names": names, "steps": 60}
    result = FewShotCurve(shots=(3,), modes=("frozen",), few_shot=few, scratch=False, resamples=20).run(
        oracles.bands(), *splits
    )
    assert result.notes == [
        "A case series: 4 test patients are too few for intervals.",
        "1 images without 'label_multi' are left out.",
    ]
    metric = result.metrics["dice/both/3 labels, frozen"]
    assert metric.value > 0.6
    assert (metric.low, metric.why) == (None, "a case series has no interval")
    scores = result.extra["case_series"]["scores"]["3 labels, frozen"]["0"]
    assert len(scores["both"]["dice"]) == len(result.extra["case_series"]["images"]) == 4
    assert result.comparisons == {}


def test_wrong_settings_and_too_few_labels_are_named(lungs, oracles) -> None:
    with pytest.raises(ValueError, match="modes be among"):
        FewShotCurve(modes=("warm",))
    splits = [lungs[name] for name in ("training", "validation", "test")]
    with pytest.raises(ValueError, match="shots must be between 1 and the 6 images of the list, got 12"):
        FewShotCurve(shots=(3, 12), few_shot=FAST).run(oracles.bands(), *splits)
    with pytest.raises(DatalistError, match="test must hold at least one image with 'label', got none"):
        FewShotCurve(shots=(1,), few_shot=FAST).run(oracles.bands(), splits[0], splits[1], [])
    with pytest.raises(DatalistError, match="one split only"):
        FewShotCurve(shots=(1,), few_shot=FAST).run(oracles.bands(), splits[0], splits[1], splits[0])
