"""A decoder that says what is where the network was shown nothing."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from monai_anat.networks.backbones.positions import sincos_positions
from monai_anat.networks.backbones.prenorm_block import PreNormBlock, initialize_linear

__all__ = ["ContextDecoder"]


class ContextDecoder(nn.Module):
    """Predict the tokens of a whole view from those of some of its cells, by transformer blocks.

    The known tokens are put at their cells, one learned mask token at all others; a class token goes before them, fixed
    sine-cosine positions are added (none to the class token), and after the blocks and a last normalization the class
    token is left away. The context decoder of Lamps (arXiv 2512.22872): 8 blocks of 1,024 channels with 16 heads. The
    keys are those of the published files under ``vitdecoder``; the mask token stands there beside the backbone.

    Args:
        num_features: channels D of the tokens.
        grid: cells per axis of the whole view.
        depth: number of blocks.
        num_heads: attention heads, a divisor of D.
        mlp_ratio: hidden width of the perceptron relative to D.

    Raises:
        ValueError: if the heads do not divide the channels, or there is no block.

    Example:
        >>> decoder = ContextDecoder(16, (3, 3), depth=1, num_heads=2)
        >>> decoder(torch.zeros(2, 4, 16), torch.tensor([[0, 1, 3, 4], [4, 5, 7, 8]])).shape
        torch.Size([2, 9, 16])
    """

    positions: Tensor

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
        """Put the known tokens at their cells and the mask token at all others.

        Args:
            tokens: (B, K, D) of the known cells.
            cells: (B, K) int64, the row-major cell of each, all different.

        Returns:
            (B, N, D).
        """
        everywhere = self.mask_token.to(tokens.dtype).expand(len(tokens), prod(self.grid), -1)
        return everywhere.scatter(1, cells[:, :, None].expand_as(tokens), tokens)

    def forward(self, tokens: Tensor, cells: Tensor) -> Tensor:
        """Predict all tokens (B, N, D) from some (B, K, D) at their cells (B, K)."""
        placed = self.place(tokens, cells) + self.positions
        x = torch.cat([self.cls_token.to(placed.dtype).expand(len(placed), -1, -1), placed], dim=1)  # (B, 1 + N, D)
        for block in self.decoder_blocks:
            x = block(x)
        predicted: Tensor = self.decoder_norm(x)
        return predicted[:, 1:]
