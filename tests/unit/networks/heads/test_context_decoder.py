"""The context decoder: known tokens at their cells, mask tokens elsewhere, and every output from all of them."""

from __future__ import annotations

from itertools import product

import pytest
import torch

from monai_anat.networks.heads.context_decoder import ContextDecoder
from monai_anat.transforms.windows import window_cells


def test_placed_tokens_come_back_from_all_16_windows_of_the_paper() -> None:
    torch.manual_seed(0)
    decoder = ContextDecoder(8, (14, 14), depth=1, num_heads=2)
    offsets = torch.tensor(list(product(range(4), repeat=2)))
    tokens = torch.randn(16, 121, 8)
    cells = window_cells(offsets, 11, (14, 14))
    placed = decoder.place(tokens, cells)
    assert torch.equal(placed.gather(1, cells[:, :, None].expand(-1, -1, 8)), tokens)
    masked = (placed == decoder.mask_token[0]).all(2)
    assert (masked.sum(1) == 75).all()
    for row, (r, c) in enumerate(offsets.tolist()):
        window = placed[row].reshape(14, 14, 8)[r : r + 11, c : c + 11]
        assert torch.equal(window, tokens[row].reshape(11, 11, 8))


def test_every_missing_cell_is_told_by_its_place_and_by_what_is_known() -> None:
    torch.manual_seed(0)
    decoder = ContextDecoder(16, (3, 3), depth=2, num_heads=2).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    tokens = torch.randn(1, 4, 16, requires_grad=True)
    cells = torch.tensor([[0, 1, 3, 4]])
    predicted = decoder(tokens, cells)
    assert predicted.shape == (1, 9, 16)
    missing = predicted[0, [2, 5, 6, 7, 8]]
    assert torch.cdist(missing, missing).fill_diagonal_(1).min() > 1e-2
    missing.sum().backward()
    assert (tokens.grad.abs().sum(2) > 0).all()
    # the same tokens in another order at the same cells
    mixed = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(decoder(tokens[:, mixed], cells[:, mixed]), predicted)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"num_heads must divide num_features.*num_features=10, num_heads=4"):
        ContextDecoder(10, (2, 2), num_heads=4)
    with pytest.raises(ValueError, match=r"depth=0"):
        ContextDecoder(8, (2, 2), depth=0, num_heads=2)
