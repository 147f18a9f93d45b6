"""The transformer block of ViT, of Swin and of the decoders built like them, and the initialization of its layers."""

from __future__ import annotations

from monai.networks.layers import DropPath
from torch import Tensor, nn

from monai_anat.networks.backbones.attention import attend
from monai_anat.networks.backbones.backbone import Perceptron, static_shape

__all__ = ["PreNormBlock", "initialize_linear"]


class PreNormBlock(nn.Module):
    """Attention and a perceptron, each normalized before and added: the block of ViT, and with windows that of Swin.

    The arithmetic and the parameter names are those of the published ViT files (Dosovitskiy et al., ICLR 2021, arXiv
    2010.11929, equations 2 and 3). ``monai.networks.blocks.TransformerBlock`` has other names and one eps.

    Args:
        channels: D of the tokens, a multiple of ``num_heads``.
        num_heads: attention heads.
        mlp_ratio: hidden width of the perceptron relative to D.
        norm_eps: epsilon of both LayerNorms.
        drop_path_rate: stochastic depth.
        attention: tokens -> tokens; self-attention between all of them when not given.

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
        self.mlp = Perceptron(channels, int(channels * mlp_ratio))
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens (B, ..., D), as the attention takes them, -> the same shape."""
        x = x + self.drop_path(self.attn(self.norm1(x)))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


class _Attention(nn.Module):
    """Self-attention between all tokens (B, N, D)."""

    def __init__(self, channels: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        tokens, channels = static_shape(x)[1:]
        qkv = self.qkv(x).reshape(-1, tokens, 3, self.num_heads, channels // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, heads, N, D / heads)
        out = attend(query, key, value)
        x = self.proj(out.transpose(1, 2).reshape(-1, tokens, channels))
        return x


def initialize_linear(module: nn.Module) -> None:
    """For ``network.apply``: the weights of a Linear from a narrow normal distribution, its bias 0."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
