"""Landmarks stand where the mask puts them, and matching recovers what the features know."""

from __future__ import annotations

import pytest
import torch

from monai_anat.metrics import lung_landmarks, thorax_width
from monai_anat.metrics.landmarks import (
    LUNG_LANDMARKS,
    correspondence_error,
    match_landmarks,
    mutual_landmarks,
    read_features,
    search_landmarks,
)


def two_triangles() -> torch.Tensor:
    """Each lung a right triangle whose outer edge is vertical: apex, outer edge and lower outer corner are known."""
    mask = torch.zeros(64, 80, dtype=torch.long)
    for step in range(40):
        mask[10 + step, 8 : 9 + step // 2] = 1
        mask[12 + step, 71 - step // 2 : 72] = 2
    return mask


def coordinate_map(height: int, width: int) -> torch.Tensor:
    """Features that say where they are: a narrow bump per cell, so that the cosine falls with distance."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    here = torch.stack([rows.flatten(), columns.flatten()], dim=1).float()
    return torch.exp(-torch.cdist(here, here).square() / 2).reshape(-1, height, width)


def test_landmarks_of_known_shapes() -> None:
    points = dict(zip(LUNG_LANDMARKS, lung_landmarks(two_triangles()).tolist(), strict=True))
    assert points["right apex"] == [10.0, 8.0]
    assert points["left apex"] == [12.0, 71.0]
    assert points["right lateral extreme"] == [29.5, 8.0]
    assert points["left lateral extreme"] == [31.5, 71.0]
    assert points["right costophrenic corner"] == [49.0, 8.0]
    assert points["left costophrenic corner"] == [51.0, 71.0]


def test_mirrored_mask_with_swapped_classes_has_mirrored_landmarks() -> None:
    mask = two_triangles()
    mirrored = torch.flip(mask, dims=[1])
    swapped = torch.where(mirrored == 1, 2, torch.where(mirrored == 2, 1, 0))
    expected = lung_landmarks(mask)[[1, 0, 3, 2, 5, 4]]
    expected[:, 1] = mask.shape[1] - 1 - expected[:, 1]
    assert torch.equal(lung_landmarks(swapped), expected)


def test_absent_lung_and_cut_landmarks_are_undefined() -> None:
    mask = two_triangles()
    mask[mask == 2] = 0
    points = lung_landmarks(mask)
    assert torch.isnan(points[1::2]).all()
    assert not torch.isnan(points[0::2]).any()
    assert torch.isnan(lung_landmarks(mask[10:])[0]).all(), "the border cuts the apex off"
    assert torch.isnan(torch.tensor(thorax_width(points)))


def test_thorax_width_and_error_scale() -> None:
    points = lung_landmarks(two_triangles())
    assert thorax_width(points) == 63.0
    shifted = points + torch.tensor([3.0, 4.0])
    assert torch.allclose(correspondence_error(shifted, points, scale=63.0), torch.full((6,), 5 / 63))
    with pytest.raises(ValueError, match="scale must be a positive length"):
        correspondence_error(points, points, scale=float("nan"))


def test_features_that_know_the_place_are_matched_within_half_a_cell() -> None:
    features = coordinate_map(8, 10)
    landmarks = lung_landmarks(two_triangles())
    found = match_landmarks(features, landmarks, features, (64, 80))
    assert correspondence_error(found, landmarks).max() < 4  # a cell is 8 pixels
    centers = torch.tensor([[19.5, 35.5], [51.5, 67.5]])
    exact = match_landmarks(features, centers, features, (64, 80), temperature=0.0)
    assert torch.allclose(exact, centers)


def test_matching_follows_a_moved_anatomy() -> None:
    features = coordinate_map(8, 10)
    moved = torch.roll(features, shifts=(1, 2), dims=(1, 2))
    found = match_landmarks(features, torch.tensor([[19.5, 35.5]]), moved, (64, 80), temperature=0.0)
    assert torch.allclose(found, torch.tensor([[27.5, 51.5]]))


@pytest.mark.parametrize("temperature", [0.0, 0.05])
def test_all_pairs_at_once_are_the_pairs_one_by_one(temperature: float) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(3, 8, 5, 6, generator=generator)
    points = torch.rand(3, 4, 2, generator=generator) * 40
    points[1, 2] = float("nan")
    queries = torch.stack([read_features(one, there, (50, 48)) for one, there in zip(maps, points, strict=True)])
    found = search_landmarks(queries[:2], iter(maps), (50, 48), temperature)
    for source in range(2):
        for target in range(3):
            alone = match_landmarks(maps[source], points[source], maps[target], (50, 48), temperature)
            torch.testing.assert_close(found[source, target], alone, equal_nan=True)


def test_mutual_neighbors_recover_a_permutation_and_refuse_a_one_way_match() -> None:
    features = coordinate_map(4, 4)
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    moved = features.flatten(1)[:, order].reshape(16, 4, 4)
    rows, columns = torch.meshgrid(torch.arange(4), torch.arange(4), indexing="ij")
    centers = torch.stack([rows.flatten(), columns.flatten()], dim=1) * 8 + 3.5
    assert mutual_landmarks(features[None], centers[None], [moved, features], (32, 32)).all()
    onto_one = features.roll(4, 0)[:, :1, :1].expand(-1, 4, 4)  # everything looks like one place
    kept = mutual_landmarks(features[None], centers[None], [onto_one], (32, 32))[0, 0]
    best = onto_one[:, 0, 0] @ features.flatten(1)
    near = (centers - centers[best.argmax()]).abs().max(dim=1).values < 8
    assert torch.equal(kept, near)
    nowhere = torch.full((1, 1, 2), float("nan"))
    assert not mutual_landmarks(features[None], nowhere, [features], (32, 32)).any()


def test_half_of_the_matches_of_noise_are_mutual_by_chance() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(20, 64, 4, 4, generator=generator)
    centers = torch.cartesian_prod(torch.arange(4), torch.arange(4)) * 8 + 3.5
    kept = mutual_landmarks(maps[:10], centers.expand(10, -1, -1), maps[10:], (32, 32)).float().mean()
    assert kept == pytest.approx(16 / 31, abs=0.03)


def test_undefined_landmarks_stay_undefined() -> None:
    features = coordinate_map(4, 4)
    landmarks = torch.tensor([[float("nan"), 1.0], [7.5, 7.5]])
    for temperature in (0.0, 0.05):
        found = match_landmarks(features, landmarks, features, (16, 16), temperature)
        assert torch.isnan(found[0]).all()
        assert not torch.isnan(found[1]).any()
    assert torch.equal(
        torch.isnan(read_features(features, landmarks, (16, 16))).all(dim=1), torch.tensor([True, False])
    )


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"\(H, W\).*got shape \(1, 4, 4\)"):
        lung_landmarks(torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match=r"\(D, h, w\).*\(3, 4, 4\) and \(3, 4, 5\)"):
        match_landmarks(torch.zeros(3, 4, 4), torch.zeros(1, 2), torch.zeros(3, 4, 5), (8, 8))
