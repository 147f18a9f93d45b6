"""The Bezier intensity map and its tables."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.transforms.bezier import apply_bezier, bezier_curve, bezier_table, require_unit_range

POINTS = ((0.3, 0.6), (0.7, 0.2))
STEEP = ((0.02, 0.9), (0.1, 0.95))


def _direct(values: np.ndarray, points: tuple, inverted: bool = False) -> np.ndarray:
    """Interpolation of every value on the sampled curve, by the formula."""
    s = np.linspace(0, 1, 500)
    x, y = (3 * (1 - s) ** 2 * s * points[0][a] + 3 * (1 - s) * s**2 * points[1][a] + s**3 for a in (0, 1))
    return np.interp(values, x, y[::-1] if inverted else y)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("points", [POINTS, STEEP])
def test_the_table_equals_direct_interpolation_on_all_gray_levels(points: tuple, inverted: bool) -> None:
    for dtype, levels in [(np.uint8, 256), (np.uint16, 65536)]:
        codes = np.arange(levels, dtype=dtype).reshape(1, 16, -1)
        expected = _direct(codes / (levels - 1), points, inverted)
        from_codes = apply_bezier(codes, points, inverted)
        assert from_codes.dtype == np.float32
        np.testing.assert_allclose(from_codes, expected, atol=1e-7, rtol=0)
        floats = codes.astype(np.float64) / (levels - 1)
        np.testing.assert_allclose(apply_bezier(floats, points, inverted), expected, atol=1e-7, rtol=0)


@pytest.mark.parametrize("inverted", [False, True])
def test_values_between_gray_levels_are_interpolated_exactly(inverted: bool) -> None:
    values = np.random.RandomState(0).rand(1, 64, 64)
    np.testing.assert_allclose(
        apply_bezier(values, STEEP, inverted), _direct(values, STEEP, inverted), atol=1e-12, rtol=0
    )
    single = apply_bezier(torch.from_numpy(values).float(), STEEP, inverted)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, _direct(values, STEEP, inverted), atol=1e-5, rtol=0)


@pytest.mark.parametrize("points", [((0, 1), (0, 1)), ((1, 0), (1, 0)), ((1, 0), (0, 1)), ((0, 0), (0, 1))])
def test_knots_that_crowd_near_an_end_or_the_middle_are_told_apart(points: tuple) -> None:
    near = np.geomspace(1e-12, 1e-3, 500)
    values = np.concatenate([[0, 0.5, 1], near, 1 - near, 0.5 + near, 0.5 - near, np.linspace(0, 1, 999)])
    x, _ = bezier_curve(points)
    assert np.diff(x).min() > 0
    np.testing.assert_allclose(apply_bezier(values, points), _direct(values, points), atol=1e-9, rtol=0)


def test_a_few_gray_levels_between_do_not_pass_for_a_stored_image() -> None:
    values = np.arange(256, dtype=np.float64).reshape(1, 16, 16) / 255
    values[0, 3, 3] += 0.3 / 255
    np.testing.assert_allclose(apply_bezier(values, STEEP), _direct(values, STEEP), atol=1e-7, rtol=0)


def test_1000_random_maps_are_monotone_and_fix_or_swap_the_ends() -> None:
    rng = np.random.RandomState(0)
    for _ in range(1000):
        points = rng.rand(2, 2)
        rising, falling = bezier_table(points), bezier_table(points, inverted=True)
        assert (rising.diff() >= -1e-12).all() and (falling.diff() <= 1e-12).all()
        assert (float(rising[0]), float(rising[-1])) == (0.0, 1.0)
        assert (float(falling[0]), float(falling[-1])) == (1.0, 0.0)


def test_corners_of_the_unit_square_are_allowed() -> None:
    for points in [((1, 0), (0, 1)), ((0, 1), (1, 0)), ((0, 0), (0, 0)), ((1, 1), (1, 1))]:
        out = apply_bezier(torch.rand(1, 8, 8), points)
        assert torch.isfinite(out).all()
        x, _ = bezier_curve(points)
        assert (np.diff(x) >= -1e-15).all()


def test_the_diagonal_is_the_identity() -> None:
    image = torch.arange(256, dtype=torch.uint8).reshape(1, 16, 16)
    third = ((1 / 3, 1 / 3), (2 / 3, 2 / 3))
    assert torch.allclose(apply_bezier(image, third), image / 255, atol=1e-6)
    assert torch.allclose(apply_bezier(image, third, inverted=True), 1 - image / 255, atol=1e-6)


def test_half_precision_and_empty_images_pass() -> None:
    assert apply_bezier(torch.rand(1, 4, 4).half(), POINTS).dtype == torch.float16
    assert apply_bezier(torch.rand(1, 0, 4), POINTS).shape == (1, 0, 4)


def test_errors_name_the_argument_and_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"control_points must be two points.*outside it the map is not monotone"):
        bezier_table(((0.3, 1.2), (0.5, 0.5)))
    with pytest.raises(ValueError, match=r"control_points must be two points"):
        bezier_table(((0.3, float("nan")), (0.5, 0.5)))
    with pytest.raises(ValueError, match=r"img must lie in \[0, 1\], got values from -1 to 2"):
        apply_bezier(torch.tensor([-1.0, 2.0]), POINTS)
    with pytest.raises(ValueError, match=r"img must lie in \[0, 1\], got values from nan"):
        require_unit_range(torch.tensor([0.5, float("nan")]))
    with pytest.raises(TypeError, match=r"img must be uint8, uint16 or floating point, got torch.int16"):
        apply_bezier(torch.zeros(2, dtype=torch.int16), POINTS)
