"""Patch-order head: one linear layer for all tokens."""

from __future__ import annotations

import pytest
import torch

from monai_anat.networks.heads.order import OrderHead


def test_order_head_is_shared_by_tokens():
    head = OrderHead(6, 9)
    tokens = torch.randn(2, 9, 6)
    order = torch.randperm(9)
    torch.testing.assert_close(head(tokens[:, order]), head(tokens)[:, order])
    assert head(tokens).shape == (2, 9, 9)
    with pytest.raises(ValueError, match="num_cells"):
        OrderHead(6, 0)
