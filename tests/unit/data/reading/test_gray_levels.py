from __future__ import annotations

import numpy as np
import pytest

from monai_anat.data.reading.decoded import UnreadableError
from monai_anat.data.reading.gray_levels import scale_by_percentiles, scale_stored, to_gray


def test_percentiles_use_valid_pixels_only_and_stay_in_range() -> None:
    values = np.arange(10_000.0).reshape(100, 100)
    values[0, 0] = 1e9
    valid = np.ones((100, 100), dtype=bool)
    valid[50:] = False
    mapped, words = scale_by_percentiles(values, valid)
    assert mapped.dtype == np.float32 and mapped.min() == 0 and mapped.max() == 1
    assert mapped[49, 99] > 0.98 and "percentiles" in words
    flat, _ = scale_by_percentiles(np.full((4, 4), 3.0))
    assert flat.max() == 0
    with pytest.raises(UnreadableError, match="finite"):
        scale_by_percentiles(np.full((4, 4), np.nan))


@pytest.mark.parametrize(
    ("values", "expected", "words"),
    [
        (np.array([[0, 255]], np.uint8), [[0, 1]], "0..255"),
        (np.array([[False, True]]), [[0, 1]], "0..1"),
        (np.array([[0, 1000]], np.int16), [[0, 1000 / 1023]], "0..1023"),
        (np.array([[0, 65535]], np.uint16), [[0, 1]], "0..65535"),
        (np.array([[0.0, 0.5]]), [[0, 0.5]], "kept"),
        (np.array([[0.0, 128.0]]), [[0, 128 / 255]], "0..255"),
    ],
)
def test_stored_values(values: np.ndarray, expected: list[list[float]], words: str) -> None:
    pixels, mapping = scale_stored(values)
    np.testing.assert_allclose(pixels, expected, atol=1e-6)
    assert words in mapping


def test_values_without_a_depth_go_by_percentiles() -> None:
    for values in (np.array([[-5, 5]]), np.array([[0, 70000]]), np.array([[0.5, 300.25]])):
        assert "percentiles" in scale_stored(values)[1]


def test_gray_of_color() -> None:
    color = np.zeros((1, 1, 4), np.uint8)
    color[..., 0] = 100
    assert to_gray(color).tolist() == [[30]]
    assert to_gray(np.full((1, 1, 2), 5)).tolist() == [[5]]
    assert to_gray(np.array([[[1.0, 2.0, 3.0]]]))[0, 0] == pytest.approx(0.299 + 2 * 0.587 + 3 * 0.114)
