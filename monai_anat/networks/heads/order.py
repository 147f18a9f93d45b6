"""Patch-order head: the original position of every token."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["OrderHead"]


class OrderHead(nn.Module):
    """Classify the original position of every token of a shuffled image.

    One Linear with bias, shared by all tokens: POPAR (MICCAI DART 2022) and PEAC (arXiv:2312.00335). The target class
    at position j of a shuffled image is ``order[j]``.

    Args:
        in_features: number of channels D of the tokens.
        num_cells: number of cells N.

    Raises:
        ValueError: if a width is below 1.

    Example:
        >>> import torch
        >>> OrderHead(32, 49)(torch.zeros(2, 49, 32)).shape
        torch.Size([2, 49, 49])
    """

    def __init__(self, in_features: int, num_cells: int) -> None:
        super().__init__()
        if in_features < 1 or num_cells < 1:
            raise ValueError(
                f"in_features and num_cells must be at least 1, got in_features={in_features}, num_cells={num_cells}"
            )
        self.in_features = in_features
        self.num_cells = num_cells
        self.linear = nn.Linear(in_features, num_cells)

    def forward(self, tokens: Tensor) -> Tensor:
        """Compute logits (B, N, num_cells) of tokens (B, N, D)."""
        logits: Tensor = self.linear(tokens)
        return logits
