"""Paths of items."""

from __future__ import annotations

import pytest

from monai_anat.data.items import file_of, is_prepared_path


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("a/index.npy#3", "a/index.npy"),
        ("a#3/b.png", "a#3/b.png"),
        ("a.npy#b/c.png", "a.npy#b/c.png"),
        ("#.png", "#.png"),
        ("study #7/index.npy#-1", "study #7/index.npy"),
    ],
)
def test_only_the_number_of_a_prepared_image_is_cut_off(path: str, file: str) -> None:
    assert file_of(path) == file
    assert is_prepared_path(path) == (file != path)
