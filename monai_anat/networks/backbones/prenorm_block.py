"""Pre-norm transformer block of ViT, Swin and transformer decoders."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.networks.backbones.attention import attend
from monai_anat.networks.backbones.backbone import static_shape
from monai_anat.networks.backbones.drop_path import StochasticDepth

__all__ = ["PreNormBlock", "initialize_linear"]


class PreNormBlock(nn.Module):
    """Pre-norm transformer block: attention and a perceptron, each with a residual connection.

    The arithmetic and the parameter names are those of published ViT files (Dosovitskiy et al., ICLR 2021,
    arXiv:2010.11929, equations 2 and 3). With a window attention it is the block of Swin Transformer.
    ``monai.networks.blocks.TransformerBlock`` has other parameter names and a fixed LayerNorm epsilon.

    Args:
        channels: number of channels D of the tokens, a multiple of ``num_heads``.
        num_heads: number of attention heads.
        mlp_ratio: hidden width of the perceptron relative to D.
        norm_eps: epsilon of both LayerNorms.
        drop_path_rate: stochastic depth rate.
        attention: module that maps tokens to tokens. Defaults to self-attention between all tokens.

    Example:
        >>> import torch
        >>> PreNormBlock(16, num_heads=2)(torch.zeros(2, 9, 16)).shape
        torch.Size([2, 9, 16])
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-6,
        drop_path_rate: float = 0.0,
        attention: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels, eps=norm_eps)
        self.attn = _Attention(channels, num_heads) if attention is None else attention
        self.norm2 = nn.LayerNorm(channels, eps=norm_eps)
        self.mlp = _Perceptron(channels, int(channels * mlp_ratio))
        self.drop_path = StochasticDepth(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Transform tokens (B, ..., D), in the layout that the attention takes, to the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class _Perceptron(nn.Module):
    """Two-layer perceptron with the parameter names of published files: fc1, GELU, fc2."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) -> the same shape."""
        x = self.fc2(F.gelu(self.fc1(x)))
        return x


class _Attention(nn.Module):
    """Self-attention between all tokens (B, N, D)."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        shape = static_shape(x)
        tokens, channels = shape[1], shape[2]
        qkv = self.qkv(x).reshape(-1, tokens, 3, self.num_heads, channels // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, D / heads)
        out = attend(query, key, value)
        x = self.proj(out.transpose(1, 2).reshape(-1, tokens, channels))
        return x


def initialize_linear(module: nn.Module) -> None:
    """Initialize a Linear: weights from a truncated normal distribution of deviation 0.02, biases 0.

    Args:
        module: any module; only ``nn.Linear`` is changed. Pass the function to ``network.apply``.
    """
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
