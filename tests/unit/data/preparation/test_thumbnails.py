"""Thumbnails of radiographs."""

from __future__ import annotations

import numpy as np

from monai_anat.data.preparation.thumbnails import THUMBNAIL, thumbnail_of


def test_thumbnails_average_by_area_alike_for_bytes_and_floats() -> None:
    bright = np.zeros((64, 64), np.uint8)
    bright[:, 32:] = 200
    small = thumbnail_of(bright)
    assert small.shape == (THUMBNAIL, THUMBNAIL) and small.dtype == np.uint8
    np.testing.assert_array_equal(small, np.tile(np.repeat([0, 200], 8), (16, 1)))
    np.testing.assert_array_equal(thumbnail_of(bright / np.float32(255)), small)
