"""Intensity statistics of chest radiographs."""

from __future__ import annotations

__all__ = ["CHEST_MEAN", "CHEST_STD"]

#: mean of the intensities of chest radiographs in [0, 1], over ChestX-ray14
CHEST_MEAN = 0.5056
#: standard deviation of the same intensities
CHEST_STD = 0.252
