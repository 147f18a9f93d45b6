"""Intensity statistics: the defaults of encoder, probe and views are the same numbers."""

from __future__ import annotations

import inspect

from monai_anat.evaluation import FrozenEncoder
from monai_anat.intensities import CHEST_MEAN, CHEST_STD
from monai_anat.methods import RandPEACViewsd


def test_the_defaults_are_the_published_statistics():
    assert (CHEST_MEAN, CHEST_STD) == (0.5056, 0.252)
    for function in (RandPEACViewsd, FrozenEncoder):
        parameters = inspect.signature(function).parameters
        assert parameters["mean"].default == CHEST_MEAN
        assert parameters["std"].default == CHEST_STD
