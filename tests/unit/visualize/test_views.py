"""Inputs beside what is restored of them, tiles, and contact sheets."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.visualize import draw_restorations
from monai_anat.visualize.views import draw_contact_sheet, tile_views


def test_restorations_share_the_scale_of_their_target() -> None:
    targets = np.stack([np.linspace(0, 1, 64).reshape(1, 8, 8), np.linspace(5, 9, 64).reshape(1, 8, 8)])
    figure = draw_restorations(targets * 3, targets / 2, targets, names=["shuffled", "distorted"])
    limits = [axis.images[0].get_clim() for axis in figure.axes]
    assert limits == [(0.0, 1.0), (5.0, 9.0)] * 3
    assert [axis.get_title() for axis in figure.axes[:2]] == ["input: shuffled", "input: distorted"]
    assert np.array_equal(figure.axes[2].images[0].get_array(), (targets[0, 0] / 2).astype(np.float32))


def test_restorations_name_unequal_lists() -> None:
    with pytest.raises(ValueError, match="inputs 2, restored 1, targets 2"):
        draw_restorations(np.zeros((2, 8, 8)), np.zeros((1, 8, 8)), np.zeros((2, 8, 8)))


def test_tiles_hold_every_view_stretched() -> None:
    views = np.random.default_rng(0).random((5, 1, 6, 7)) * 4 - 2
    canvas = tile_views(views, columns=3, border=1)
    assert canvas.dtype == np.uint8
    assert canvas.shape == (1, 2 * 7 + 1, 3 * 8 + 1)
    fourth = canvas[0, 8:14, 1:8]
    expected = (views[3, 0] - views[3, 0].min()) / np.ptp(views[3, 0])
    assert np.abs(fourth / 255 - expected).max() <= 0.5 / 255 + 1e-6
    assert tile_views(views, limit=2).shape == (1, 10, 20)
    with pytest.raises(ValueError, match=r"\(B, C, H, W\), got shape \(1, 6, 7\)"):
        tile_views(views[0])


def test_contact_sheet_takes_sizes_that_differ() -> None:
    figure = draw_contact_sheet([np.eye(8), np.ones((1, 6, 9)), np.zeros((4, 4))], ["a", "b", "c"], columns=2)
    assert [axis.get_title() for axis in figure.axes] == ["a", "b", "c", ""]
    with pytest.raises(ValueError, match="images 1, captions 2"):
        draw_contact_sheet([np.eye(8)], ["a", "b"])
