"""Lines join what belongs together."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.patches import ConnectionPatch

from monai_anat.visualize import encode_png
from monai_anat.visualize.correspondences import draw_correspondence


def test_lines_join_landmark_and_match_and_skip_what_is_undefined() -> None:
    landmarks = np.array([[2.0, 3.0], [np.nan, 1.0], [10.0, 4.0]])
    found = np.array([[5.0, 6.0], [1.0, 1.0], [9.0, 8.0]])
    figure = draw_correspondence(np.eye(16), landmarks, np.eye(16), found, found + 1, names=["a", "b", "c"])
    lines = [artist for artist in figure.artists if isinstance(artist, ConnectionPatch)]
    assert [(line.xy1, line.xy2) for line in lines] == [((3.0, 2.0), (6.0, 5.0)), ((4.0, 10.0), (8.0, 9.0))]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "c"]
    assert encode_png(figure).startswith(b"\x89PNG")


def test_unequal_points_are_named() -> None:
    with pytest.raises(ValueError, match=r"must all be \(K, 2\), got \(2, 2\), \(3, 2\) and \(3, 2\)"):
        draw_correspondence(np.eye(4), np.zeros((2, 2)), np.eye(4), np.zeros((3, 2)))
