"""Heads between wholes and parts: layers, order, and misuse."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks.heads.part_whole_heads import CompositionHead, DecompositionHead


def test_parts_become_a_whole_in_their_order() -> None:
    torch.manual_seed(0)
    head, parts = CompositionHead(6, num_parts=3), torch.randn(5, 3, 6)
    state = head.state_dict()
    hidden = torch.cat([parts[:, 0], parts[:, 1], parts[:, 2]], 1) @ state["0.weight"].T + state["0.bias"]
    torch.testing.assert_close(head(parts), hidden.clamp(min=0) @ state["2.weight"].T + state["2.bias"])
    assert not torch.allclose(head(parts[:, [1, 0, 2]]), head(parts), atol=1e-3)


def test_a_whole_becomes_parts_each_from_its_own_rows() -> None:
    torch.manual_seed(0)
    head, whole = DecompositionHead(6, num_parts=3), torch.randn(5, 6)
    state = head.state_dict()
    hidden = (whole @ state["0.weight"].T + state["0.bias"]).clamp(min=0)
    for part in range(3):
        rows = slice(6 * part, 6 * part + 6)
        expected = hidden @ state["2.weight"][rows].T + state["2.bias"][rows]
        torch.testing.assert_close(head(whole)[:, part], expected)


@pytest.mark.parametrize("head", [CompositionHead, DecompositionHead])
def test_keys_are_those_of_the_published_files(head: type) -> None:
    assert set(head(4).state_dict()) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    with pytest.raises(ValueError, match=r"num_parts at least 2, got in_features=4 and num_parts=1"):
        head(4, num_parts=1)
    with pytest.raises(ValueError, match=r"in_features=0"):
        head(0)


@pytest.mark.parametrize(
    ("head", "hidden", "widths"),
    [(CompositionHead, (4, 4), [(8, 4), (4, 4), (4, 4)]), (DecompositionHead, (8,), [(4, 8), (8, 8)])],
)
def test_normalized_hidden_layers_are_those_of_lamps(head: type, hidden: tuple, widths: list) -> None:
    layers = head(4, 2, hidden_features=hidden, layer_norm=True)
    linear = [layer for layer in layers if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in linear] == widths
    assert [layer.bias is None for layer in linear] == [True] + [False] * (len(linear) - 1)
    assert sum(isinstance(layer, torch.nn.LayerNorm) for layer in layers) == len(hidden)
    with pytest.raises(ValueError, match=r"hidden_features must name one width or more.*got \(\)"):
        head(4, hidden_features=())
