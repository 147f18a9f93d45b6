"""Local pixel shuffle."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.transforms.local_shuffle import local_pixel_shuffle, pixel_shuffle_map

APART = np.array([[[0, 0], [4, 5]], [[6, 7], [3, 3]]])


def test_windows_that_do_not_overlap_keep_the_histogram_and_the_rest() -> None:
    image = torch.arange(100).reshape(1, 10, 10)
    out = local_pixel_shuffle(image, APART, seed=0)
    assert torch.equal(out.sort().values.flatten().sort().values, image.flatten())
    inside = torch.zeros(10, 10, dtype=torch.bool)
    for (r, c), (h, w) in APART:
        inside[r : r + h, c : c + w] = True
        window = (slice(None), slice(r, r + h), slice(c, c + w))
        assert torch.equal(out[window].flatten().sort().values, image[window].flatten().sort().values)
    assert torch.equal(out[0, ~inside], image[0, ~inside])
    assert not torch.equal(out, image)


def test_windows_read_the_original_and_later_ones_win() -> None:
    boxes = np.array([[[0, 0], [6, 6]], [[3, 3], [6, 6]]])
    image = torch.arange(100).reshape(1, 10, 10)
    out = local_pixel_shuffle(image, boxes, seed=0)
    last = image[:, 3:9, 3:9].flatten()
    assert torch.equal(out[:, 3:9, 3:9].flatten().sort().values, last.sort().values)
    # what the first window left visible comes from the first window of the original
    assert torch.isin(out[:, 0:3, 0:6], image[:, 0:6, 0:6]).all()


def test_all_channels_and_batches_share_one_permutation_in_2d_and_3d() -> None:
    boxes = np.array([[[0, 0, 1], [3, 3, 2]]])
    image = torch.arange(4 * 4 * 4).reshape(1, 4, 4, 4)
    out = local_pixel_shuffle(image.expand(2, 3, 4, 4, 4), boxes, seed=0)
    assert out.shape == (2, 3, 4, 4, 4)
    assert torch.equal(out, local_pixel_shuffle(image, boxes, seed=0).expand_as(out))
    assert not torch.equal(out[0, 0], image[0])


def test_permutations_are_uniform() -> None:
    box = np.array([[[0, 0], [1, 4]]])
    source = torch.stack([pixel_shuffle_map((1, 4), box, seed) for seed in range(4000)])
    counts = torch.stack([(source == pixel).sum(0) for pixel in range(4)])
    assert (counts - 1000).abs().max() < 120


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.bool, torch.float32, torch.float64])
def test_the_type_stays(dtype: torch.dtype) -> None:
    for channels in (1, 2):
        image = torch.arange(100 * channels).reshape(channels, 10, 10).to(dtype)
        out = local_pixel_shuffle(image, APART, seed=0)
        assert out.dtype == dtype
        wide = local_pixel_shuffle(image.to(torch.int64), APART, seed=0)
        assert torch.equal(out.to(torch.int64), wide)


def test_the_same_seed_gives_the_same_numbers_and_the_input_stays() -> None:
    image = torch.arange(100).reshape(1, 10, 10)
    assert torch.equal(local_pixel_shuffle(image, APART, 3), local_pixel_shuffle(image, APART, 3))
    assert not torch.equal(local_pixel_shuffle(image, APART, 3), local_pixel_shuffle(image, APART, 4))
    assert torch.equal(image, torch.arange(100).reshape(1, 10, 10))
