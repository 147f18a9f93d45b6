"""The mask token: where it stands, and where nothing changes."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks.backbones.mask_token import MaskToken


@pytest.mark.parametrize(("sides", "grid"), [((4, 6), (2, 3)), ((4, 4), (4, 4)), ((2, 4, 6), (2, 2, 3))])
def test_it_stands_in_hidden_cells_and_nowhere_else(sides: tuple[int, ...], grid: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(2, *sides, 5, generator=generator)
    hidden = torch.rand(2, torch.Size(grid).numel(), generator=generator) < 0.5
    token = MaskToken(5)
    out = token(patches, hidden, grid)
    for index in torch.cartesian_prod(*[torch.arange(side) for side in sides]).tolist():
        cell = 0
        for position, side, cells in zip(index, sides, grid, strict=True):
            cell = cell * cells + position * cells // side
        for sample in range(2):
            place = (sample, *index)
            assert torch.equal(out[place], token.mask_token if hidden[sample, cell] else patches[place])


def test_the_token_learns_and_keeps_the_precision_of_the_patches() -> None:
    token = MaskToken(3)
    out = token(torch.zeros(1, 2, 2, 3, dtype=torch.bfloat16), torch.tensor([[True]]), (1, 1))
    assert out.dtype == torch.bfloat16
    out.sum().backward()
    assert token.mask_token.grad is not None
    assert token.mask_token.grad.tolist() == [4.0] * 3


def test_cells_of_broken_patches_and_other_masks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"3 x 3 grid of whole patches, got \[1, 9\] and 4 x 4 patches; use a cell"):
        MaskToken(2)(torch.zeros(1, 4, 4, 2), torch.zeros(1, 9, dtype=torch.bool), (3, 3))
    with pytest.raises(ValueError, match=r"hidden must be \(B, 4\).*got \[1, 9\]"):
        MaskToken(2)(torch.zeros(1, 4, 4, 2), torch.zeros(1, 9, dtype=torch.bool), (2, 2))
