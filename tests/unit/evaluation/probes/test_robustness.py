"""Robustness probe: changes of images and scores."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.evaluation import RobustnessProbe
from monai_anat.evaluation.probes.robustness import Motion, _origins, change_intensity, move_images
from monai_anat.networks import ViTBackbone

FAST = {"resamples": 50, "random_seed": None}


def test_moves_are_where_their_origins_say(oracles) -> None:
    """Rotate, enlarge and shift a smooth picture of a coordinate: the value at a place is its origin's."""
    encoder = oracles.gray()
    side = encoder.image_size
    line = (torch.arange(side) + 0.5) / side
    for axis, picture in enumerate((line[:, None].expand(side, side), line[None].expand(side, side))):
        moved = move_images(picture[None, None].contiguous(), 10.0, 0.1, 1.1)[0, 0]
        cells = torch.nn.functional.avg_pool2d(moved[None, None], 4)[0, 0].flatten().numpy()
        here, origin, inside = _origins(encoder, Motion(10.0, 0.1, 1.1))
        deep = inside & (origin > 0.1).all(axis=1) & (origin < 0.9).all(axis=1)
        assert deep.sum() > 50
        np.testing.assert_allclose(cells[deep], origin[deep, axis], atol=0.01)
    assert here[0].tolist() == pytest.approx([2 / 48, 2 / 48])


def test_shift_is_down_and_to_the_right() -> None:
    image = torch.zeros(1, 1, 10, 10)
    image[..., 3, 4] = 1
    assert move_images(image, 0.0, 0.2)[0, 0].nonzero().tolist() == [[5, 6]]
    turned = move_images(image, 90.0, 0.0)[0, 0].argmax()
    assert divmod(int(turned), 10) == (5, 3), "counter-clockwise"


def test_a_scale_above_one_enlarges() -> None:
    image = torch.zeros(1, 1, 12, 12)
    image[..., 4:8, 4:8] = 1
    for scale in (0.5, 1.0, 1.5):
        assert move_images(image, scale=scale).sum() == pytest.approx(16 * scale**2, rel=0.05)


def test_nothing_changes_without_a_change(lungs, oracles) -> None:
    probe = RobustnessProbe(shifts=(0.0,), degrees=(), scales=(), gammas=(0.0,), noises=(), **FAST)
    metrics = probe.run(oracles.frozen(oracles.noise().backbone), lungs["training"]).metrics
    for name in ("gamma +0",):
        assert metrics[f"cosine/{name}"].value == pytest.approx(1)
        assert metrics[f"identification/{name}"].value == 1
        assert metrics[f"dense_hit/{name}"].value == 1
        assert metrics[f"dense_error/{name}"].value == pytest.approx(0, abs=1e-12)


def test_position_features_find_the_same_position(lungs, oracles) -> None:
    """They know nothing of motion: with a shift of a quarter they are wrong by it, exactly as the baseline."""
    probe = RobustnessProbe(shifts=(0.25,), degrees=(8.0,), scales=(0.8,), gammas=(), noises=(0.1,), **FAST)
    encoder = oracles.place()
    plain = encoder.embeddings
    encoder.embeddings = lambda items, *a: plain(items, *a) + np.arange(len(items))[:, None]  # not all equal
    result = probe.run(encoder, lungs["training"])
    same = result.baselines["same position"]
    for name in ("shift 0.25", "rotation 8", "scale 0.8", "noise 0.1"):
        for kind in ("dense_hit", "dense_error"):
            assert result.metrics[f"{kind}/{name}"].value == pytest.approx(same[f"{kind}/{name}"].value)
    assert same["dense_error/shift 0.25"].value == pytest.approx(0.25 * 2**0.5)
    assert same["dense_hit/shift 0.25"].value == 0
    assert same["dense_hit"].value == pytest.approx(
        np.mean([metric.value for name, metric in same.items() if name.startswith("dense_hit/")])
    )
    assert same["dense_error/noise 0.1"].value == pytest.approx(0, abs=1e-12)


def test_a_coarse_map_is_given_no_more_room_than_a_fine_one(lungs, oracles) -> None:
    """A shift of a tenth is beyond the radius, whether it is less than a cell of the map or more."""
    probe = RobustnessProbe(shifts=(0.1,), degrees=(), scales=(), gammas=(), noises=(), **FAST)
    for size in (32, 128):
        backbone = ViTBackbone(image_size=size, patch_size=8, embed_dim=8, depth=4, num_heads=2)
        encoder = oracles.frozen(backbone, image_size=size)
        same = probe.run(encoder, lungs["training"]).baselines["same position"]
        assert same["dense_hit"].value == 0
        assert same["dense_error"].value == pytest.approx(0.1 * 2**0.5)


def test_intensity_changes() -> None:
    image = torch.rand(2, 1, 8, 8)
    assert torch.equal(change_intensity(image), image)
    assert torch.equal(change_intensity(image, noise=0.1), change_intensity(image, noise=0.1)), "one fixed field"
    assert change_intensity(image, noise=5.0).min() >= 0
