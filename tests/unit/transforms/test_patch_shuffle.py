"""Shuffling patches and putting them back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose

from monai_anat.transforms import RandShufflePatchesd, RestorePatches, RestorePatchesd, ShufflePatches
from monai_anat.transforms.patch_shuffle import inverse_order, restore_patches, shuffle_patches

CASES = [((1, 8, 8), 2), ((3, 6, 8), (3, 2)), ((2, 4, 8, 6), (2, 4, 3)), ((1, 448, 448), 32)]


def _permutation(n: int, seed: int = 0) -> torch.Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(seed))


def _patches(shape: tuple[int, ...], patch: int | tuple[int, ...]) -> int:
    return int(np.prod(np.array(shape[1:]) // np.array(patch)))


@pytest.mark.parametrize(("shape", "patch"), CASES)
def test_restoring_is_the_exact_inverse(shape: tuple[int, ...], patch: int) -> None:
    image, order = torch.rand(shape), _permutation(_patches(shape, patch))
    shuffled = ShufflePatches(patch)(image, order)
    assert not torch.equal(shuffled, image)
    assert torch.equal(RestorePatches(patch)(shuffled, order), image)
    assert torch.equal(ShufflePatches(patch)(shuffled, inverse_order(order)), image)


@pytest.mark.parametrize(("shape", "patch"), CASES[:2])
def test_gather_equals_a_loop_over_patches(shape: tuple[int, ...], patch: int | tuple[int, int]) -> None:
    image, order = np.random.RandomState(0).rand(*shape), _permutation(_patches(shape, patch)).numpy()
    ph, pw = np.broadcast_to(patch, 2)
    columns = shape[2] // pw
    expected = np.empty_like(image)
    for j, source in enumerate(order):
        (r, c), (sr, sc) = divmod(j, columns), divmod(int(source), columns)
        expected[:, r * ph : (r + 1) * ph, c * pw : (c + 1) * pw] = image[
            :, sr * ph : (sr + 1) * ph, sc * pw : (sc + 1) * pw
        ]
    assert np.array_equal(shuffle_patches(image, order, patch), expected)


def test_position_0_shows_original_patch_order_0() -> None:
    image = torch.tensor([[[0, 1], [2, 3]]]).repeat_interleave(2, 1).repeat_interleave(2, 2)
    shuffled = shuffle_patches(image, torch.tensor([2, 0, 3, 1]), 2)
    assert shuffled[0, ::2, ::2].tolist() == [[2, 0], [3, 1]]


def test_the_identity_changes_nothing() -> None:
    image = torch.rand(1, 8, 8)
    assert torch.equal(shuffle_patches(image, torch.arange(16), 2), image)


def test_a_batch_is_shuffled_sample_by_sample() -> None:
    for shape in [(3, 2, 4, 6), (3, 1, 4, 4, 2)]:
        images = torch.rand(shape)
        orders = torch.stack([_permutation(_patches(shape[1:], 2), seed) for seed in range(3)])
        expected = torch.stack([shuffle_patches(i, o, 2) for i, o in zip(images, orders, strict=True)])
        shuffled = shuffle_patches(images, orders, 2)
        assert torch.equal(shuffled, expected)
        assert torch.equal(restore_patches(shuffled, orders, 2), images)


def test_shuffling_is_differentiable_and_keeps_integer_types() -> None:
    image = torch.rand(1, 4, 4, requires_grad=True)
    shuffle_patches(image, torch.tensor([3, 2, 1, 0]), 2).sum().backward()
    assert image.grad is not None and torch.equal(image.grad, torch.ones_like(image))
    assert shuffle_patches(np.zeros((1, 4, 4), np.int16), np.arange(4), 2).dtype == np.int16


def test_all_keys_share_one_order_which_stays_in_the_sample() -> None:
    numbers = torch.arange(64.0).reshape(1, 8, 8)
    sample = RandShufflePatchesd(["image", "label"], 2).set_random_state(0)({"image": numbers, "label": numbers})
    assert torch.equal(sample["image"], sample["label"])
    assert torch.equal(sample["image"], shuffle_patches(numbers, sample["order"], 2))
    assert sample["order"].sort().values.tolist() == list(range(16))


def test_orders_are_uniform_permutations_and_share_of_shuffled_samples_is_prob() -> None:
    shuffle = RandShufflePatchesd("image", 2, prob=0.5).set_random_state(0)
    image = torch.zeros(1, 4, 4)
    orders = [tuple(shuffle({"image": image})["order"].tolist()) for _ in range(2000)]
    identity = sum(order == (0, 1, 2, 3) for order in orders)
    # half are left alone, and 1 of 24 permutations is the identity
    assert abs(identity / 2000 - (0.5 + 0.5 / 24)) < 0.04
    assert len(set(orders)) == 24


def test_inverse_and_restore_use_the_order_of_the_sample() -> None:
    image = MetaTensor(torch.rand(1, 8, 8), affine=torch.diag(torch.tensor([2.0, 3.0, 1.0, 1.0])))
    chain = Compose([RandShufflePatchesd("image", 2)]).set_random_state(0)
    sample = chain({"image": image})
    assert torch.equal(chain.inverse(sample)["image"].as_tensor(), image.as_tensor())
    restored = RestorePatchesd("image", 2)(sample)["image"]
    assert torch.equal(restored.as_tensor(), image.as_tensor()) and torch.equal(restored.affine, image.affine)


def test_errors_name_the_argument_and_the_way_out() -> None:
    image = torch.rand(1, 8, 8)
    with pytest.raises(ValueError, match=r"order must have shape \(16,\).*got \(4,\); check patch_size"):
        shuffle_patches(image, torch.arange(4), 2)
    with pytest.raises(ValueError, match=r"permutation of 0\.\.3, got \[0, 0, 1, 2\]"):
        shuffle_patches(image, torch.tensor([0, 0, 1, 2]), 4)
    with pytest.raises(ValueError, match=r"order must be \(N,\) or, for a batch, \(B, N\)"):
        shuffle_patches(image, torch.arange(4).reshape(1, 1, 4), 4)
    with pytest.raises(ValueError, match=r"img must be \(C, H, W\[, D\]\)"):
        shuffle_patches(image[0], torch.arange(4), 4)
    with pytest.raises(ValueError, match=r"multiple of patch_size, got \(8, 8\)"):
        shuffle_patches(image, torch.arange(4), 3)
    with pytest.raises(KeyError, match=r"no 'order'.*RandShufflePatchesd"):
        RestorePatchesd("image", 2)({"image": image})
    with pytest.raises(ValueError, match=r"keys must have one spatial shape.*'label' with \(4, 4\)"):
        RandShufflePatchesd(["image", "label"], 2)({"image": image, "label": torch.rand(1, 4, 4)})
