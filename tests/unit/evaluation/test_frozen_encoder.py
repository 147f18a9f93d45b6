"""Frozen encoder: normalization, cache and errors."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.networks.nets import SwinUNETR, ViT

from monai_anat.data import DatalistError, radiograph_preprocessing
from monai_anat.evaluation import FrozenEncoder, load_cases
from monai_anat.evaluation.features import CollapsedFeaturesError, centered
from monai_anat.networks import ResNetBackbone, SwinBackbone, as_backbone, save_encoder

TINY = {"embed_dim": 8, "depths": (1, 1), "num_heads": (1, 2)}


def counted(encoder: FrozenEncoder) -> list[int]:
    """The batch sizes that go through the network from now on."""
    sizes: list[int] = []
    encoder.backbone.register_forward_pre_hook(lambda module, args: sizes.append(len(args[0])))
    forward = encoder.backbone.forward_features
    encoder.backbone.forward_features = lambda x: (sizes.append(len(x)), forward(x))[1]
    return sizes


def test_features_are_computed_once_and_shared(lungs, oracles) -> None:
    encoder = oracles.bands()
    sizes = counted(encoder)
    maps = encoder.feature_maps(lungs["training"][:4])
    assert sum(sizes) == 4
    np.testing.assert_allclose(encoder.embeddings(lungs["training"][:4]), maps.mean(axis=(2, 3)), rtol=1e-6)
    np.testing.assert_array_equal(encoder.feature_maps([lungs["training"][2]])[0], maps[2])
    assert sum(sizes) == 4, "neither embeddings nor a part of the list cost another pass"
    encoder.feature_maps(lungs["training"][:4], lambda x: x.flip(3), "mirror")
    assert sum(sizes) == 8
    boxes = np.tile([0, 0, 10, 10], (4, 2, 1))
    first = encoder.window_embeddings(lungs["training"][:4], boxes)
    np.testing.assert_array_equal(encoder.window_embeddings(lungs["training"][:4], boxes), first)
    assert sum(sizes) == 16


def test_the_cache_serves_later_encoders_with_the_same_weights_only(lungs, oracles, gray_bands, tmp_path) -> None:
    encoder = oracles.frozen(gray_bands(), cache_dir=tmp_path)
    before = encoder.embeddings(lungs["test"])
    again = oracles.frozen(gray_bands(), cache_dir=tmp_path)
    sizes = counted(again)
    np.testing.assert_array_equal(again.embeddings(lungs["test"]), before)
    assert sizes == []
    other = gray_bands()
    torch.nn.init.constant_(other.weight, 2.0)
    np.testing.assert_allclose(
        oracles.frozen(other, cache_dir=tmp_path).embeddings(lungs["test"]), 2 * before, rtol=1e-6
    )
    smaller = oracles.frozen(gray_bands(), cache_dir=tmp_path, image_size=24)
    assert smaller.feature_maps(lungs["test"]).shape[2:] == (6, 6)


def test_a_temporary_store_goes_with_its_encoder(lungs, oracles) -> None:
    encoder = oracles.gray()
    encoder.embeddings(lungs["test"])
    folder: Path = encoder._folder
    assert folder.is_dir()
    del encoder
    gc.collect()
    assert not folder.exists()


def test_gray_goes_to_every_channel_with_its_own_normalization(lungs) -> None:
    torch.manual_seed(0)
    backbone = ResNetBackbone(depth=18, in_channels=3).eval()
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    encoder = FrozenEncoder(backbone, image_size=64, mean=mean, std=std)
    image = radiograph_preprocessing(64, square=True)(dict(lungs["test"][0]))["image"]
    normal = (image.expand(3, -1, -1) - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    with torch.no_grad():
        expected = backbone(normal[None])[0]
    torch.testing.assert_close(torch.as_tensor(encoder.feature_maps(lungs["test"][:1])[0]), expected)
    with pytest.raises(ValueError, match="one for each of the 3 channels, got 2"):
        FrozenEncoder(backbone, mean=[0.5, 0.5], std=1.0)


def test_random_weights_come_from_the_seed_and_leave_the_encoder_alone(lungs) -> None:
    torch.manual_seed(0)
    for backbone in (
        SwinBackbone(**TINY),
        as_backbone(SwinUNETR(1, 2, spatial_dims=2, feature_size=12, depths=(1, 1, 1, 1)), image_size=64),
    ):
        encoder = FrozenEncoder(backbone, image_size=64)
        own = encoder.embeddings(lungs["test"][:2])
        first, second, third = (encoder.random(seed).embeddings(lungs["test"][:2]) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, second)
        assert not np.allclose(first, third)
        assert not np.allclose(first, own)
        np.testing.assert_array_equal(FrozenEncoder(backbone, image_size=64).embeddings(lungs["test"][:2]), own)


def test_record_gives_size_and_normalization(tmp_path) -> None:
    save_encoder(SwinBackbone(**TINY), tmp_path, image_size=56, mean=0.4, std=0.2)
    encoder = FrozenEncoder.load(tmp_path)
    assert encoder.settings["image_size"] == 56
    assert encoder.settings["mean"] == 0.4
    assert FrozenEncoder.load(tmp_path, image_size=28).grid == (4, 4)
    assert FrozenEncoder.of(encoder) is encoder


def test_a_padded_map_reaches_beyond_the_image() -> None:
    encoder = FrozenEncoder(SwinBackbone(**TINY), image_size=60)
    assert encoder.grid == (8, 8)
    assert encoder.extent == (64, 64)


def test_too_small_a_grid_names_the_ways_out(oracles, gray_bands) -> None:
    encoder = oracles.frozen(gray_bands(), image_size=8)
    with pytest.raises(ValueError, match=r"at least 4 x 4 cells, got 2 x 2 at image_size=8 .* such as -2"):
        encoder.check_grid(4)


def test_equal_and_broken_features_are_named(lungs, oracles) -> None:
    with pytest.raises(CollapsedFeaturesError, match="collapsed"):
        oracles.constant().mean_feature(lungs["test"])
    with pytest.raises(CollapsedFeaturesError):
        centered(np.ones((4, 3)))
    encoder = oracles.gray()
    encoder.backbone.weight.data.fill_(float("nan"))
    with pytest.raises(ValueError, match="must be finite, got NaN"):
        encoder.embeddings(lungs["test"])
    with pytest.raises(ValueError, match="backbone must be 2D, got spatial_dims=3"):
        FrozenEncoder(SwinBackbone(spatial_dims=3, **TINY))


def test_mean_feature_is_the_mean_over_images_and_cells(lungs, oracles) -> None:
    encoder = oracles.frozen(oracles.bands().backbone, batch_size=3)
    expected = encoder.feature_maps(lungs["training"]).mean(axis=(0, 2, 3))
    np.testing.assert_allclose(encoder.mean_feature(lungs["training"]), expected, rtol=1e-5)


def test_a_size_that_the_network_does_not_take_is_named() -> None:
    fixed = as_backbone(ViT(1, (32, 32), (8, 8), hidden_size=8, mlp_dim=8, num_layers=4, num_heads=1, spatial_dims=2))
    assert FrozenEncoder(fixed, image_size=32).grid == (4, 4)
    with pytest.raises(ValueError, match=r"encoder must take images of image_size=48, got: The size of tensor"):
        _ = FrozenEncoder(fixed, image_size=48).grid
    with pytest.raises(ValueError, match=r"level must be in -4 \.\. 3"):
        FrozenEncoder(fixed, image_size=32, level=4)


def test_images_are_read_once_for_all_changes(lungs, oracles, monkeypatch) -> None:
    items = lungs["training"][:3]
    changes = {"": None, "darker": lambda images: images / 2}
    expected = oracles.bands()
    encoder, seen = oracles.bands(), []
    batches = encoder._batches
    monkeypatch.setattr(encoder, "_batches", lambda todo: (seen.append(len(todo)), batches(todo))[1])
    encoder.prepare(items, changes)
    assert seen == [3]
    for name, change in changes.items():
        for found, wanted in (
            (encoder.embeddings(items, change, name), expected.embeddings(items, change, name)),
            (encoder.feature_maps(items, change, name), expected.feature_maps(items, change, name)),
        ):
            np.testing.assert_allclose(found, wanted, atol=1e-7)
    encoder.prepare(items, changes)
    assert sum(seen) == 3, "what is there is not computed again"


def test_a_file_that_cannot_be_read_is_named(oracles, tmp_path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(DatalistError, match=r"broken\.png"):
        oracles.bands().embeddings([{"image": str(tmp_path / "broken.png")}])
    with pytest.raises(DatalistError, match=r"broken\.png"):
        load_cases([{"image": str(tmp_path / "broken.png"), "label": str(tmp_path / "broken.png")}], 24)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_a_device_that_is_not_there_is_named(oracles, gray_bands) -> None:
    with pytest.raises(ValueError, match="device must be one that torch finds here, got 'cuda'; take 'cpu'"):
        oracles.frozen(gray_bands(), device="cuda")
