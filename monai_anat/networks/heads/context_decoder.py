"""Transformer decoder that predicts the tokens of masked cells."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from monai_anat.networks.backbones.positions import sincos_positions
from monai_anat.networks.backbones.prenorm_block import PreNormBlock, initialize_linear

__all__ = ["ContextDecoder"]


class ContextDecoder(nn.Module):
    """Predict the tokens of a whole view from the tokens of some of its cells.

    Known tokens are placed at their cells, a learned mask token at all others. A class token is prepended, fixed
    sine-cosine positions are added (none to the class token), and transformer blocks and a normalization follow. The
    output omits the class token. This is the context decoder of Lamps (arXiv:2512.22872), which has 8 blocks of 1,024
    channels with 16 heads. Parameter names are those of the published files under ``vitdecoder``, where the mask token
    is stored beside the backbone.

    Args:
        num_features: number of channels D of the tokens.
        grid: number of cells per axis of the whole view.
        depth: number of blocks.
        num_heads: number of attention heads, a divisor of D.
        mlp_ratio: hidden width of the perceptron relative to D.

    Raises:
        ValueError: if ``num_heads`` does not divide ``num_features``, or ``depth`` is below 1.

    Example:
        >>> decoder = ContextDecoder(16, (3, 3), depth=1, num_heads=2)
        >>> decoder(torch.zeros(2, 4, 16), torch.tensor([[0, 1, 3, 4], [4, 5, 7, 8]])).shape
        torch.Size([2, 9, 16])
    """

    def __init__(
        self, num_features: int, grid: Sequence[int], *, depth: int = 8, num_heads: int = 16, mlp_ratio: float = 4.0
    ) -> None:
        super().__init__()
        if depth < 1 or num_heads < 1 or num_features % num_heads:
            raise ValueError(
                f"num_heads must divide num_features and depth be at least 1, got {num_features=}, {num_heads=} and "
                f"{depth=}; the paper has 1024 channels, 16 heads and 8 blocks"
            )
        self.num_features = num_features
        self.grid = tuple(grid)
        self.cells = prod(self.grid)
        self.positions: Tensor  # TorchScript cannot resolve this annotation in the class body
        self.register_buffer("positions", sincos_positions(num_features, self.grid), persistent=False)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, num_features))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, num_features))
        # the norms of ViT have eps 1e-6; those of the paper's decoder 1e-5
        self.decoder_blocks = nn.ModuleList(
            PreNormBlock(num_features, num_heads, mlp_ratio, norm_eps=1e-5) for _ in range(depth)
        )
        self.decoder_norm = nn.LayerNorm(num_features)
        self.apply(initialize_linear)
        nn.init.trunc_normal_(self.cls_token, std=0.02)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def place(self, tokens: Tensor, cells: Tensor) -> Tensor:
        """Place the known tokens at their cells and the mask token at all others.

        Args:
            tokens: (B, K, D), the known tokens.
            cells: (B, K) int64, row-major index of the cell of each token, all different.

        Returns:
            (B, N, D).
        """
        everywhere = self.mask_token.to(tokens.dtype).expand(tokens.shape[0], self.cells, -1)
        return everywhere.scatter(1, cells[:, :, None].expand_as(tokens), tokens)

    def forward(self, tokens: Tensor, cells: Tensor) -> Tensor:
        """Predict all tokens (B, N, D) from known tokens (B, K, D) at their cells (B, K)."""
        placed = self.place(tokens, cells) + self.positions
        class_token = self.cls_token.to(placed.dtype).expand(placed.shape[0], -1, -1)
        x = torch.cat([class_token, placed], dim=1)  # (B, 1 + N, D)
        for block in self.decoder_blocks:
            x = block(x)
        predicted: Tensor = self.decoder_norm(x)
        return predicted[:, 1:]
