"""Localizability probe on encoders with known results."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from monai_anat.data import DatalistError
from monai_anat.evaluation import LocalizabilityProbe
from monai_anat.evaluation.probes.localizability import _average_precision, _vote

FAST = {"resamples": 50, "random_seed": None}


@pytest.fixture(scope="module")
def grays(tmp_path_factory):
    """Every landmark stands in a square of its own gray level, at places that vary."""
    folder = tmp_path_factory.mktemp("grays")
    generator = np.random.default_rng(0)
    items = []
    for number in range(8):
        image = np.zeros((60, 60), int)
        places = {}
        for index, name in enumerate(("right apex", "left apex", "carina")):
            row, column = 5 + 18 * index + generator.integers(0, 5), 5 + generator.integers(0, 30)
            image[row : row + 12, column : column + 12] = (77, 153, 255)[index]
            places[name] = [row + 5.5, column + 5.5]
        image = np.clip(image + generator.integers(-3, 4, size=image.shape), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{number}.png")
        items.append({"image": str(folder / f"{number}.png"), "patient": number, "landmarks": places})
    return items


def test_an_encoder_that_knows_is_perfect(grays, oracles) -> None:
    result = LocalizabilityProbe(window=0.2, **FAST).run(oracles.bands(), grays)
    metrics = result.metrics
    for name in ("knn_accuracy", "recall_at_1", "mean_average_precision", "linear_accuracy"):
        assert metrics[name].value == pytest.approx(1), name
    assert metrics["silhouette"].value > 0.9
    assert metrics["left_right_confusion"].why.startswith("no window was taken for another landmark")
    assert result.extra["n_windows"] == 24
    assert np.array(result.extra["picture"]["points"]).shape == (24, 2)
    assert sorted(set(result.extra["picture"]["landmark"])) == [0, 1, 2]


def test_noise_is_at_chance(grays, oracles) -> None:
    metrics = LocalizabilityProbe(window=0.2, picture_points=0, **FAST).run(oracles.noise(), grays).metrics
    for name in ("knn_accuracy", "recall_at_1", "linear_accuracy"):
        assert metrics[name].value == pytest.approx(1 / 3, abs=0.3), name
    assert metrics["silhouette"].value == pytest.approx(0, abs=0.08)


def test_registered_images_make_position_perfect(grays, oracles) -> None:
    registered = [{**item, "landmarks": grays[0]["landmarks"]} for item in grays]
    baseline = LocalizabilityProbe(picture_points=0, **FAST).run(oracles.noise(), registered).baselines["position"]
    assert baseline["knn_accuracy"].value == 1
    assert baseline["silhouette"].value == pytest.approx(1)


def test_a_patient_is_never_his_own_neighbor(grays, oracles) -> None:
    """Two images of each patient are equal; by themselves they would give a recall of 1 to noise."""
    twins = [{**grays[number // 2], "patient": number // 2} for number in range(16)]
    metrics = LocalizabilityProbe(window=0.2, picture_points=0, **FAST).run(oracles.noise(), twins).metrics
    assert metrics["recall_at_1"].value < 0.7


def test_votes_and_precision_by_hand() -> None:
    assert _vote(np.array([[2, 1, 1], [0, 1, 2], [1, 0, 0]]), 3).tolist() == [1, 0, 0]
    relevant = np.array([[True, False, True, False]])
    allowed = np.array([[True, True, True, False]])
    order = np.array([[1, 0, 2, 3]])
    assert _average_precision(relevant, allowed, order).tolist() == [pytest.approx((1 / 2 + 2 / 3) / 2)]
    assert np.isnan(_average_precision(relevant & False, allowed, order)).all()


def test_one_landmark_alone_cannot_be_told_from_others(lungs, oracles) -> None:
    items = [
        {"image": item["image"], "patient": item["patient"], "landmarks": {"carina": [9, 9]}} for item in lungs["test"]
    ]
    with pytest.raises(DatalistError, match=r"two different landmarks, .* for localizability, got 4 places of 1 landm"):
        LocalizabilityProbe(**FAST).run(oracles.noise(), items)


def test_with_two_patients_the_vote_is_of_the_other_one_alone(grays, oracles) -> None:
    """Five neighbors are wanted and the other patient has three windows: one's own are no neighbors even then."""
    swapped = {"right apex": "left apex", "left apex": "carina", "carina": "right apex"}
    renamed = {swapped[name]: place for name, place in grays[1]["landmarks"].items()}
    items = [grays[0], {**grays[1], "landmarks": renamed}]
    metrics = LocalizabilityProbe(window=0.2, picture_points=0, **FAST).run(oracles.bands(), items).metrics
    assert metrics["recall_at_1"].value == metrics["knn_accuracy"].value == 0


def test_images_without_landmarks_are_left_out_and_counted(grays, oracles) -> None:
    blank = [{"image": item["image"], "patient": f"x{number}", "label": 1} for number, item in enumerate(grays[:3])]
    probe = LocalizabilityProbe(window=0.2, picture_points=0, **FAST)
    result = probe.run(oracles.bands(), [*blank, *grays])
    assert result.n_images == result.n_patients == 8
    assert result.notes == ["3 of 11 images are left out, which have no landmarks or lung mask."]
    assert result.metrics == probe.run(oracles.bands(), grays).metrics
    with pytest.raises(DatalistError, match="images with landmarks or lung mask for localizability, got none among 3"):
        probe.run(oracles.bands(), blank)
    with pytest.raises(DatalistError, match=r"in two patients for localizability, got 6 places of .* in 1 patients"):
        probe.run(oracles.bands(), [{**item, "patient": "a"} for item in grays[:2]] + [{**grays[2], "landmarks": {}}])
