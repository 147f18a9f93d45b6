"""Augmentation of batches: images and labels move together, without flips, reproducibly."""

from __future__ import annotations

import pytest
import torch

from monai_anat.evaluation.augmentation import augment_batch

STILL = {"degrees": 0.0, "scale": 0.0, "shift": 0.0, "gamma": 0.0, "noise": 0.0}


def blob(count: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright L, which no rotation turns into its mirror image."""
    labels = torch.zeros(count, 40, 40, dtype=torch.uint8)
    labels[:, 10:30, 12:18] = 1
    labels[:, 24:30, 12:28] = 1
    return labels[:, None].float(), labels


def draw(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_asked_for_changes_nothing() -> None:
    images, labels = blob()
    new_images, new_labels = augment_batch(images, labels, draw(0), **STILL)
    assert torch.allclose(new_images, images, atol=1e-5)
    assert torch.equal(new_labels, labels)


def test_image_and_label_move_together() -> None:
    images, labels = blob()
    new_images, new_labels = augment_batch(images, labels, draw(1), gamma=0.0, noise=0.0)
    assert not torch.equal(new_labels, labels)
    agree = ((new_images[:, 0] > 0.5) == (new_labels > 0)).float().mean()
    assert agree > 0.99


def test_no_class_appears_between_two_others() -> None:
    images, labels = blob()
    moved = augment_batch(images, labels * 2, draw(6))[1]
    assert set(moved.unique().tolist()) == {0, 2}


def test_each_image_has_its_own_draw_and_seeds_repeat() -> None:
    images, labels = blob()
    first, second = (augment_batch(images, labels, draw(2))[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.allclose(first[0], first[1])
    assert not torch.equal(first, augment_batch(images, labels, draw(3))[0])


def test_no_mirror_image_ever() -> None:
    images, labels = blob(64)
    moved = augment_batch(images, labels, draw(4), gamma=0.0, noise=0.0)[1].float()
    columns = torch.arange(40.0)
    upper, lower = moved[:, :20], moved[:, 24:]
    middle = [(part.sum(1) * columns).sum(1) / part.sum((1, 2)) for part in (upper, lower)]
    assert (middle[1] > middle[0]).all(), "the foot of the L stays on the right"


def test_gray_levels_stay_in_range_and_input_stays_as_it_is() -> None:
    images, labels = blob()
    kept = images.clone()
    new_images, _ = augment_batch(images, labels, draw(5), gamma=2.0, noise=0.5)
    assert new_images.min() >= 0
    assert new_images.max() <= 1
    assert torch.equal(images, kept)


def test_wrong_shapes_are_named() -> None:
    with pytest.raises(ValueError, match=r"got \(2, 1, 8, 8\) and \(2, 1, 8, 8\)"):
        augment_batch(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 8, 8), draw(0))
