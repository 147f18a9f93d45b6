"""Matched cells of two grid crops are the recorded correct ones, and not the released ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import torch
from torch import Tensor

from monai_anat.transforms import match_cells


def _pairs(match: Tensor) -> list[list[int]]:
    """[index in crop 1, index in crop 2], ordered by index in crop 1."""
    shown = torch.nonzero(match >= 0).flatten()
    return torch.stack([shown, match[shown]], dim=1).tolist()


def test_pairs_of_the_recorded_geometries(reference: Callable[[str], dict[str, Any]]) -> None:
    entry = reference("grid_crop")["grid_pairs_public"]
    table = entry["expected"]["table"]
    assert [row["cells"] for row in table] == entry["inputs"]["geometries"]
    for row in table:
        r1, c1, r2, c2 = row["cells"]
        correct, released = (_pairs(match_cells(*o, 14)) for o in [((r1, c1), (r2, c2)), ((c1, r1), (c2, r2))])
        assert len(correct) == row["correct_count"]
        assert correct[:5] == row["correct_first5"] and correct[-5:] == row["correct_last5"]
        # the released pairing exchanges rows and columns
        assert len(released) == row["released_count"] and released[:3] == row["released_first3"]
        assert sum(pair in correct for pair in released) == row["released_right"]


def test_the_released_pairing_is_not_ours(reference: Callable[[str], dict[str, Any]]) -> None:
    expected = reference("grid_crop")["grid_pairs_all625"]["expected"]
    total = right = whole = 0
    for r1, c1, r2, c2 in product(range(5), repeat=4):
        ours, released = match_cells((r1, c1), (r2, c2), 14), match_cells((c1, r1), (c2, r2), 14)
        pairs = int((released >= 0).sum())
        agree = int(((released == ours) & (released >= 0)).sum())
        total, right, whole = total + pairs, right + agree, whole + (agree == pairs)
    assert total == expected["released_pairs_total"]
    assert (right, whole) == (expected["released_pairs_right"], expected["views_fully_right"])
