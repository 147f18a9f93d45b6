"""Landmark probe on encoders with known results."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import torch
from PIL import Image

from monai_anat.evaluation import LandmarkProbe

FAST = {"resamples": 50, "random_seed": None}


@pytest.fixture(scope="module")
def items(lungs):
    return [*lungs["training"], *lungs["test"]]


@pytest.fixture(scope="module")
def on_cells(lungs):
    """Landmarks at the centers of cells of four pixels, so that nothing is lost between cells."""
    generator = np.random.default_rng(0)
    names = ("right apex", "left apex", "right lateral extreme", "left lateral extreme")
    base = np.array([[2, 3], [2, 8], [5, 1], [5, 10]])
    listed = []
    for item in lungs["training"]:
        cells = base + generator.integers(-1, 2, size=(4, 2))
        places = {name: (cell * 4 + 1.5).tolist() for name, cell in zip(names, cells, strict=True)}
        listed.append({"image": item["image"], "patient": item["patient"], "landmarks": places})
    return listed


def test_coordinates_give_exactly_the_same_position_error(on_cells, oracles) -> None:
    result = LandmarkProbe(temperature=0.0, **FAST).run(oracles.place(), on_cells)
    same = result.baselines["same position"]
    for name, metric in result.metrics.items():
        if metric.value is not None and name not in ("retrieval", "mutual", "error_mutual"):
            assert metric.value == pytest.approx(same[name].value, abs=1e-9), name
            assert metric.replicates == pytest.approx(same[name].replicates, abs=1e-6), name
    found = result.comparisons["same position"]["error"]
    assert found.difference == pytest.approx(0, abs=1e-9)
    assert found.ahead is None
    assert result.metrics["mutual"].value == 1
    assert result.metrics["error_mutual"].value == result.metrics["error"].value


def test_an_encoder_that_follows_the_anatomy_is_ahead_of_the_same_position(items, oracles, coordinates) -> None:
    result = LandmarkProbe(center=False, **FAST).run(oracles.frozen(coordinates()), items)
    assert result.metrics["error"].value < 4 / 27, "within a cell of the thorax width"
    assert result.metrics["retrieval"].value > 0.95
    assert result.metrics["left_right_confusion"].value == 0
    assert result.comparisons["same position"]["error"].ahead == "first"
    assert result.extra["n_pairs"] == 10 * 9


def test_noise_is_at_chance(items, oracles) -> None:
    result = LandmarkProbe(**FAST).run(oracles.noise(), items)
    assert result.metrics["retrieval"].low < 1 / 6 < result.metrics["retrieval"].high
    assert result.metrics["left_right_confusion"].value == pytest.approx(0.5, abs=0.1)
    assert result.metrics["mutual"].value < 0.5, "chance is one half at the centers of cells, less between them"
    assert result.metrics["error_mutual"].value == pytest.approx(result.metrics["error"].value, rel=0.15)
    assert result.comparisons["same position"]["error"].ahead == "second"


def test_errors_by_hand(oracles, tmp_path) -> None:
    """Two pictures with one bright cell each; the encoder that sees gray finds the bright cell."""
    items = []
    for number, (row, column, height) in enumerate([(3, 2, 48), (6, 8, 96)]):
        image = np.zeros((height, 48), np.uint8)
        step = height // 12
        image[row * step : (row + 1) * step, column * 4 : (column + 1) * 4] = 255
        Image.fromarray(image).save(tmp_path / f"{number}.png")
        places = {"nodule": [row * step + (step - 1) / 2 + 3 * number, column * 4 + 1.5 + 4 * number]}
        path = str(tmp_path / f"{number}.png")
        items.append({"image": path, "patient": number, "landmarks": places, "thorax_width": 50})
    result = LandmarkProbe(temperature=0.0, center=True, radii=(0.05, 0.2), **FAST).run(oracles.bands(), items)
    # from the second to the first the query reads another, dark cell; take the pair from the first to the second
    case = next(c for c in result.cases.values() if c["target"]["image"].endswith("1.png"))
    assert case["target"]["found"] == [[51.5, 33.5]]
    assert case["score"] == pytest.approx(np.hypot(3, 4) / 50)


def test_images_of_one_patient_are_no_pair_and_sources_are_limited(items, oracles) -> None:
    twins = [{**item, "patient": name} for item, name in zip(items[:4], "aabc", strict=True)]
    assert LandmarkProbe(**FAST).run(oracles.noise(), twins).extra["n_pairs"] == 10
    assert LandmarkProbe(max_sources=1, **FAST).run(oracles.noise(), items).extra["n_pairs"] == 9


def test_memory_holds_one_map_at_a_time(items, oracles, monkeypatch) -> None:
    encoder = oracles.noise()
    encoder.batch_size = 2
    largest = []
    read = encoder.feature_maps
    monkeypatch.setattr(encoder, "feature_maps", lambda part, *a: (largest.append(len(part)), read(part, *a))[1])
    LandmarkProbe(**FAST).run(encoder, items)
    assert max(largest) == 2


def test_millimeters_where_the_spacing_is_known(items, oracles, monkeypatch) -> None:
    from monai_anat.evaluation.probes import landmarks as module

    load = module.load_landmarks

    def spaced(listed):
        found = load(listed)
        found.spacings[:] = 0.5, 0.5
        return found

    monkeypatch.setattr(module, "load_landmarks", spaced)
    metrics = LandmarkProbe(**FAST).run(oracles.noise(), items).metrics
    assert metrics["error_mm"].value == pytest.approx(metrics["error"].value * 27 * 0.5)
    assert metrics["error_mm"].unit == "mm"


def test_no_common_landmark_and_a_small_grid_are_named(items, oracles, gray_bands) -> None:
    apart = [
        {"image": item["image"], "patient": number, "landmarks": {f"place {number}": [3, 3]}}
        for number, item in enumerate(items[:2])
    ]
    with pytest.raises(ValueError, match="two patients with a common landmark, got none"):
        LandmarkProbe(**FAST).run(oracles.noise(), apart)
    with pytest.raises(ValueError, match="at least 4 x 4 cells, got 3 x 3"):
        LandmarkProbe(**FAST).run(oracles.frozen(gray_bands(), image_size=12), items)
    assert torch.get_default_dtype() == torch.float32


def test_rows_and_columns_of_different_length_are_measured_in_widths(oracles, tmp_path) -> None:
    """The same pixels, once as squares and once with every row 1.5 times as high as a column is wide."""
    image = np.random.default_rng(0).uniform(0, 255, size=(2, 48, 48)).astype(np.float32)
    errors = {}
    for aspect in (1.0, 1.5):
        items = []
        for number in range(2):
            path = tmp_path / f"{number}_{aspect}.nii.gz"
            affine = np.diag([-0.4, -0.4 * aspect, 1, 1])
            nibabel.save(nibabel.Nifti1Image(image[number].T[..., None], affine), path)
            places = {"above": [10.0, 20.0 + number], "below": [30.0 + 6 * number, 20.0]}
            items.append({"image": str(path), "patient": number, "landmarks": places, "thorax_width": 40})
        result = LandmarkProbe(**FAST).run(oracles.place(), items)
        errors[aspect] = {name: result.metrics[name].value for name in ("error/above", "error/below", "error_mm")}
        widths = np.mean([errors[aspect][f"error/{name}"] for name in ("above", "below")])
        assert errors[aspect]["error_mm"] == pytest.approx(widths * 40 * 0.4, rel=1e-4)
    assert errors[1.5]["error/below"] > 1.4 * errors[1.0]["error/below"]
    assert errors[1.5]["error/above"] < 1.1 * errors[1.0]["error/above"]
