"""Windows and their parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from monai_anat.evaluation.windows import cut_windows, split_window, window_at


def test_windows_are_centered_and_stay_inside() -> None:
    assert window_at((20, 30), 11, (60, 50)).tolist() == [15, 25, 11, 11]
    for center in ((0, 0), (59, 49), (0, 49)):
        top, left, height, width = window_at(center, 20, (60, 50))
        assert 0 <= top <= 40
        assert 0 <= left <= 30
        assert height == width == 20
    with pytest.raises(ValueError, match="side must be between 1 and the image's shorter side 50, got 51"):
        window_at((0, 0), 51, (60, 50))


@pytest.mark.parametrize("split", [(1, 2), (2, 1), (1, 3), (3, 1), (2, 2)])
def test_parts_tile_the_window(split) -> None:
    seen = np.zeros((40, 40), int)
    for top, left, height, width in split_window([5, 7, 25, 24], *split):
        seen[top : top + height, left : left + width] += 1
    assert seen[5:30, 7:31].min() == seen.max() == 1
    assert seen.sum() == 25 * 24


def test_cut_windows_show_the_pixels() -> None:
    image = np.random.default_rng(0).random((30, 40)).astype(np.float32)
    cut = cut_windows(image, [[3, 5, 16, 16], [0, 0, 8, 16]], 16)
    assert cut.shape == (2, 1, 16, 16)
    torch.testing.assert_close(cut[0, 0], torch.as_tensor(image[3:19, 5:21]))
    with pytest.raises(ValueError, match="boxes must lie inside the image"):
        cut_windows(image, [[20, 0, 16, 16]], 16)
