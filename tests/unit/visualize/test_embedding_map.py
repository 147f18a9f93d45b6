"""Every point is drawn in its label's color."""

from __future__ import annotations

import numpy as np
import pytest

from monai_anat.visualize.embedding_map import draw_embedding_map


def test_points_keep_their_places_and_names() -> None:
    points = np.random.default_rng(0).normal(size=(10, 2))
    labels = np.arange(10) % 3
    figure = draw_embedding_map(points, labels, ["a", "b", "c", "unseen"], title="t")
    offsets = [np.asarray(collection.get_offsets()) for collection in figure.axes[0].collections]
    np.testing.assert_allclose(offsets[1], points[labels == 1])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b", "c"]


def test_missing_labels_are_named() -> None:
    with pytest.raises(ValueError, match="one entry per point, got 1 for 2 points"):
        draw_embedding_map(np.zeros((2, 2)), [0], ["a"])
