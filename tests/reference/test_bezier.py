"""The intensity map gives the recorded values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from monai_anat.transforms.bezier import apply_bezier, bezier_table

NAMES = [
    "bezier_mild_monotone",
    "bezier_mild_inverted",
    "bezier_strong_low",
    "bezier_x_not_monotone_inverted",
    "bezier_y_not_monotone_inverted",
]


def test_every_entry_is_listed(reference: Callable[[str], dict[str, Any]]) -> None:
    assert sorted(reference("bezier")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_table_and_interpolation_give_the_recorded_values(
    name: str, reference: Callable[[str], dict[str, Any]], assert_agrees: Callable[..., None]
) -> None:
    entry = reference("bezier")[name]
    inputs = entry["inputs"]
    points, inverted, x = inputs["control_points"][1:3], inputs["inverted"], np.array(inputs["x"])
    assert inputs["control_points"][0] == [0, 0] and inputs["control_points"][3] == [1, 1]
    assert np.array_equal(x, np.arange(17) / 16)
    assert_agrees(bezier_table(points, levels=17, inverted=inverted), entry["expected"]["y"], entry["tolerance"])
    direct = apply_bezier(torch.from_numpy(x), points, inverted)
    assert_agrees(direct, entry["expected"]["y"], entry["tolerance"])
