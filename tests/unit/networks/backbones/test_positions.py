"""Sine-cosine positions: distances tell cells apart alike everywhere, and which half is which axis."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks.backbones.positions import sincos_positions


@pytest.mark.parametrize("grid", [(5, 7), (3, 4, 5)])
def test_scalar_products_depend_on_the_offset_alone(grid: tuple[int, ...]) -> None:
    dims = len(grid)
    table = sincos_positions(4 * 2 * dims, grid, torch.float64).reshape(*grid, -1)
    moved = (slice(1, None),) + (slice(None),) * (dims - 1)
    stay = (slice(None, -1),) + (slice(None),) * (dims - 1)
    for shift in range(2):
        one = (table[stay] * table[moved]).sum(-1)
        torch.testing.assert_close(one, one.flatten()[shift].expand_as(one))
    assert len(torch.unique(table.flatten(0, dims - 1).round(decimals=9), dim=0)) == table.flatten(0, dims - 1).shape[0]


def test_the_first_half_is_the_column_and_the_second_the_row() -> None:
    table = sincos_positions(8, (3, 4)).reshape(3, 4, 8)
    assert torch.equal(table[:, :, :4], table[:1, :, :4].expand(3, 4, 4))
    assert torch.equal(table[:, :, 4:], table[:, :1, 4:].expand(3, 4, 4))
    torch.testing.assert_close(table[0, 3, :2], torch.tensor([3.0, 0.03]).sin())
    torch.testing.assert_close(table[2, 0, 6:], torch.tensor([2.0, 0.02]).cos())


def test_channels_that_are_left_over_are_0() -> None:
    table = sincos_positions(16, (2, 2, 2))
    assert table.shape == (8, 16)
    assert (table[:, 12:] == 0).all()
    with pytest.raises(ValueError, match=r"at least 6 for 3 axes, got num_features=5"):
        sincos_positions(5, (2, 2, 2))
