"""Elastic deformation: nothing where nothing moves, affine where only corners move, smooth and bounded otherwise."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.networks.layers import GaussianFilter

from monai_anat.transforms import RandElastic
from monai_anat.transforms.elastic import ElasticDraw, displacement_field, pixel_positions, sample_at


def draw_of(corners: np.ndarray, magnitude: float = 0.0, smoothness: float = 2.0, seed: int = 0) -> ElasticDraw:
    return ElasticDraw(corners, magnitude, smoothness, seed)


@pytest.mark.parametrize("shape", [(18, 24), (12, 15, 18)])
def test_sampling_at_the_pixels_gives_the_image_and_at_moved_ones_moves_it(shape: tuple[int, ...]) -> None:
    image = torch.rand((2, *shape), generator=torch.Generator().manual_seed(0))
    positions = pixel_positions(shape)
    torch.testing.assert_close(sample_at(image, positions), image, rtol=0, atol=1e-5)
    shift = torch.arange(1.0, len(shape) + 1).reshape(-1, *[1] * len(shape))
    inner = tuple(slice(0, side - 4) for side in shape)
    moved = sample_at(image, positions + shift)[(slice(None), *inner)]
    expected = image[(slice(None), *(slice(a + 1, a + 1 + s - 4) for a, s in enumerate(shape)))]
    torch.testing.assert_close(moved, expected, rtol=0, atol=1e-5)


def test_beyond_the_edge_the_image_is_reflected() -> None:
    image = torch.arange(5.0).reshape(1, 1, 5).expand(1, 5, 5)
    positions = pixel_positions((5, 5)) + torch.tensor([0.0, 2.0]).reshape(2, 1, 1)
    torch.testing.assert_close(sample_at(image, positions)[0, 0], torch.tensor([2.0, 3.0, 4.0, 3.0, 2.0]))


@pytest.mark.parametrize("dims", [2, 3])
def test_corners_fix_an_affine_map(dims: int) -> None:
    shape = (24, 30, 36)[:dims]
    corners = np.random.RandomState(0).uniform(-3, 3, (dims + 1, dims))
    field = displacement_field(shape, draw_of(corners))
    first = [side // 2 - 8 for side in shape]
    torch.testing.assert_close(field[(slice(None), *first)], torch.tensor(corners[0], dtype=torch.float32))
    for axis in range(dims):
        at = list(first)
        at[axis] += 16
        torch.testing.assert_close(field[(slice(None), *at)], torch.tensor(corners[1 + axis], dtype=torch.float32))
        second = field.diff(n=2, dim=1 + axis)
        assert second.abs().max() < 1e-4
    same = displacement_field(shape, draw_of(np.full((dims + 1, dims), 1.5)))
    torch.testing.assert_close(same, torch.full_like(same, 1.5))


def test_the_field_is_smooth_noise_and_one_for_a_seed() -> None:
    still = np.zeros((3, 2))
    field = displacement_field((64, 64), draw_of(still, 30.0, 6.0, seed=3))
    assert torch.equal(field, displacement_field((64, 64), draw_of(still, 30.0, 6.0, seed=3)))
    assert not torch.equal(field, displacement_field((64, 64), draw_of(still, 30.0, 6.0, seed=4)))
    assert not torch.equal(field[0], field[1])
    # uniform noise of deviation 1/sqrt 3, averaged by a Gaussian of 6 pixels: 30 / sqrt 3 / (2 sqrt pi 6)
    inner = field[:, 16:-16, 16:-16]
    assert float(inner.std()) == pytest.approx(30 / 3**0.5 / (2 * np.pi**0.5 * 6), rel=0.4)
    assert field.diff(dim=1).abs().max() < 0.5
    noise = torch.rand((1, 2, 64, 64), generator=torch.Generator().manual_seed(3)) * 2 - 1
    torch.testing.assert_close(field, 30 * GaussianFilter(2, 6.0)(noise)[0], rtol=0, atol=0.01)  # pixels


def test_the_transform_draws_by_its_probability_and_can_repeat() -> None:
    image = np.random.RandomState(0).rand(1, 32, 32).astype(np.float32)
    elastic = RandElastic(prob=0.5, affine=2.0).set_random_state(0)
    moved = 0
    for _ in range(40):
        out = elastic(image)
        moved += elastic.deformation is not None
        np.testing.assert_array_equal(elastic(image, randomize=False), out)
        assert (elastic.deformation is None) == np.array_equal(out, image)
        assert out.min() >= 0 and out.max() <= 1
    assert 10 < moved < 30
    with pytest.raises(ValueError, match=r"prob must be a probability"):
        RandElastic(prob=1.5)
    with pytest.raises(ValueError, match=r"smoothness positive, got magnitude=30.0, affine=20.0 and smoothness=0"):
        RandElastic(smoothness=0)
