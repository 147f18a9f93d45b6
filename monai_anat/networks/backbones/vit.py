"""Vision Transformer under timm's parameter names, for any image size, in 2D and 3D."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.init import trunc_normal_
from torch.utils.checkpoint import checkpoint

from monai_anat.networks.backbones.backbone import (
    Backbone,
    Between,
    drop_path_rates,
    pad_to_multiple,
    static_shape,
    to_tokens,
)
from monai_anat.networks.backbones.positions import sincos_positions
from monai_anat.networks.backbones.prenorm_block import PreNormBlock, initialize_linear

__all__ = ["ViTBackbone"]

#: maps that forward_features returns: as many as a four-stage network, so that the same decoders fit
LEVELS = 4


class ViTBackbone(Backbone):
    """Vision Transformer (arXiv 2010.11929): attention between all patches of the image.

    The defaults are ViT-B/16 at 224 pixels. POPAR^-3 and PEAC^-3 use it so; the other ViT of PEAC and ACE has 448
    pixels and patches of 32. All maps have one stride. Images of another size than ``image_size`` are taken: the
    learned position embedding is resampled (bicubic in 2D, trilinear in 3D), and the image is zero-padded right and
    bottom to whole patches.

    Args:
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        image_size: pixels per axis for which positions are learned; one number for all axes.
        patch_size: side of a patch in pixels, the stride of all maps.
        embed_dim: channels of the tokens.
        depth: number of blocks.
        num_heads: attention heads.
        mlp_ratio: hidden width of the perceptron relative to the channels.
        norm_eps: epsilon of every LayerNorm.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 in the first.
        class_token: put a learned token before the patches. It takes part in attention and is left out of the maps.
        use_checkpoint: recompute each block in the backward pass, which saves memory and costs a forward pass.

    Raises:
        ValueError: when sizes do not divide as they must.

    Example:
        >>> backbone = ViTBackbone(image_size=64, embed_dim=24, depth=4, num_heads=3)
        >>> [tuple(f.shape) for f in backbone.forward_features(torch.zeros(1, 1, 64, 96))]
        [(1, 24, 4, 6), (1, 24, 4, 6), (1, 24, 4, 6), (1, 24, 4, 6)]
    """

    supports_masking = True
    supports_visible = True
    supports_fixed_positions = True

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 1,
        image_size: int | Sequence[int] = 224,
        patch_size: int = 16,
        embed_dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        norm_eps: float = 1e-6,
        drop_path_rate: float = 0.0,
        class_token: bool = False,
        use_checkpoint: bool = False,
    ) -> None:
        size = [image_size] * spatial_dims if isinstance(image_size, int) else list(image_size)
        _check_arguments(spatial_dims, size, patch_size, embed_dim, depth, num_heads, drop_path_rate)
        config: dict[str, Any] = {
            "spatial_dims": spatial_dims,
            "in_channels": in_channels,
            "image_size": size,
            "patch_size": patch_size,
            "embed_dim": embed_dim,
            "depth": depth,
            "num_heads": num_heads,
            "mlp_ratio": mlp_ratio,
            "norm_eps": norm_eps,
            "drop_path_rate": drop_path_rate,
            "class_token": class_token,
            "use_checkpoint": use_checkpoint,
        }
        # the maps come from evenly spaced depths, the last one from the end
        levels = min(LEVELS, depth)
        super().__init__(
            config,
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=(embed_dim,) * levels,
            strides=(patch_size,) * levels,
        )
        self.level_ends = tuple(depth * (level + 1) // levels for level in range(levels))
        self.grid = tuple(side // patch_size for side in size)
        self.patch_size = patch_size
        self.use_checkpoint = use_checkpoint
        self.patch_embed = _PatchProjection(spatial_dims, in_channels, embed_dim, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, embed_dim)) if class_token else None
        tokens = torch.Size(self.grid).numel() + int(class_token)
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, embed_dim))
        rates = drop_path_rates(drop_path_rate, depth)
        self.blocks = nn.ModuleList(PreNormBlock(embed_dim, num_heads, mlp_ratio, norm_eps, rate) for rate in rates)
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)
        self.apply(initialize_linear)
        trunc_normal_(self.pos_embed, std=0.02)
        if self.cls_token is not None:
            nn.init.normal_(self.cls_token, std=1e-6)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Maps from evenly spaced depths, all at stride ``patch_size``.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.

        Returns:
            Maps (B, embed_dim, h, w[, d]), stored channels last; the last one after the final normalization.

        Raises:
            ValueError: for another rank or number of channels.
        """
        return self.forward_stages(x)

    def forward_stages(self, x: Tensor, between: Between | None = None) -> list[Tensor]:
        """The maps of ``forward_features``; a stage is the blocks from one of these depths to the next.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.
            between: see :meth:`Backbone.forward_stages`; a class token passes it by.

        Returns:
            Maps (B, embed_dim, h, w[, d]), stored channels last; the last one after the final normalization.

        Raises:
            ValueError: for another rank or number of channels.
        """
        self.check_input(x)
        return self.forward_patches(self.patch_embed(x), between)

    def embed_patches(self, x: Tensor) -> Tensor:
        """Embed the patches of an image: (B, in_channels, H, W[, D]) -> (B, h, w[, d], embed_dim)."""
        self.check_input(x)
        patches: Tensor = self.patch_embed(x)
        return patches

    def forward_patches(self, patches: Tensor, between: Between | None = None) -> list[Tensor]:
        """All after the patch embedding, for methods that mask or replace patches.

        Args:
            patches: embedded patches (B, h, w[, d], embed_dim), as ``backbone.patch_embed(x)`` returns them.
            between: see :meth:`Backbone.forward_stages`; a class token passes it by.

        Returns:
            As :meth:`forward_features`.
        """
        grid = static_shape(patches)[1:-1]
        tokens = self._with_class_token(patches.flatten(1, -2) + self.position_embedding(grid))  # (B, [1 +] N, D)
        skip = 0 if self.cls_token is None else 1
        maps: list[Tensor] = []
        for number, block in enumerate(self.blocks, start=1):
            tokens = self._through(block, tokens)
            if number in self.level_ends:
                last = number == len(self.blocks)
                patches = (self.norm(tokens) if last else tokens)[:, skip:]
                maps.append(patches.reshape(-1, *grid, self.num_features).movedim(-1, 1))  # (B, D, h, w)
                if between is not None and not last:
                    handed_on = to_tokens(between(len(maps) - 1, maps[-1]))
                    tokens = torch.cat([tokens[:, :skip], handed_on], dim=1)
        return maps

    def forward_visible(self, x: Tensor, visible: Tensor) -> Tensor:
        """The tokens of some patches of the image, which see each other and none of the rest.

        Args:
            x: image (B, in_channels, H, W[, D]).
            visible: (B, K) int64, the row-major numbers of the patches that are there, all different.

        Returns:
            Tokens (B, K, D) after the final normalization, without the class token.

        Raises:
            ValueError: for another rank or number of channels.
        """
        self.check_input(x)
        patches = self.patch_embed(x)  # (B, h, w, D)
        tokens = patches.flatten(1, -2) + self.position_embedding(static_shape(patches)[1:-1])  # (B, N, D)
        tokens = tokens.gather(1, visible[:, :, None].expand(-1, -1, self.num_features))  # (B, K, D)
        tokens = self._with_class_token(tokens)
        for block in self.blocks:
            tokens = self._through(block, tokens)
        normed: Tensor = self.norm(tokens)
        return normed if self.cls_token is None else normed[:, 1:]

    def _with_class_token(self, tokens: Tensor) -> Tensor:
        if self.cls_token is None:
            return tokens
        first = self.cls_token + self.pos_embed[:, :1]
        return torch.cat([first.expand(tokens.shape[0], -1, -1), tokens], dim=1)

    def _through(self, block: nn.Module, tokens: Tensor) -> Tensor:
        recompute = self.use_checkpoint and self.training and torch.is_grad_enabled()
        out: Tensor = checkpoint(block, tokens, use_reentrant=False) if recompute else block(tokens)
        return out

    def fix_positions(self) -> None:
        """Put sines and cosines in place of the learned positions, 0 for the class token; training leaves them."""
        positions = sincos_positions(self.num_features, self.grid)
        with torch.no_grad():
            self.pos_embed.zero_()
            self.pos_embed[0, -len(positions) :] = positions
        self.pos_embed.requires_grad_(False)

    def position_embedding(self, grid: Sequence[int]) -> Tensor:
        """The embedding (1, N, D) of the patch positions on a grid (h, w[, d]), resampled where it is another one."""
        embedding = self.pos_embed if self.cls_token is None else self.pos_embed[:, 1:]
        if tuple(grid) == self.grid:
            return embedding
        as_map = embedding.reshape(1, *self.grid, self.num_features).movedim(-1, 1)  # (1, D, h, w)
        mode = "bicubic" if self.spatial_dims == 2 else "trilinear"
        return F.interpolate(as_map, size=tuple(grid), mode=mode).flatten(2).transpose(1, 2)


class _PatchProjection(nn.Module):
    """Non-overlapping patches, embedded: (B, C, H, W[, D]) -> (B, h, w[, d], E)."""

    def __init__(self, spatial_dims: int, in_channels: int, embed_dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.proj: nn.Conv2d | nn.Conv3d = convolution(in_channels, embed_dim, patch_size, patch_size)

    def forward(self, x: Tensor) -> Tensor:
        x = self.proj(pad_to_multiple(x, self.patch_size, first_axis=2))
        return x.movedim(1, -1)


def _check_arguments(
    spatial_dims: int,
    size: list[int],
    patch_size: int,
    embed_dim: int,
    depth: int,
    num_heads: int,
    drop_path_rate: float,
) -> None:
    if min(*size, patch_size, embed_dim, depth, num_heads) < 1:
        raise ValueError(
            "image_size, patch_size, embed_dim, depth and num_heads must be at least 1, got "
            f"image_size={size}, patch_size={patch_size}, embed_dim={embed_dim}, depth={depth}, num_heads={num_heads}"
        )
    if len(size) != spatial_dims:
        raise ValueError(f"image_size must have {spatial_dims} entries for spatial_dims={spatial_dims}, got {size}")
    for side in size:
        if side % patch_size:
            nearest = max(1, round(side / patch_size)) * patch_size
            raise ValueError(
                f"image_size must be a multiple of patch_size, got image_size={side} and patch_size={patch_size}; "
                f"nearest is {nearest}"
            )
    if embed_dim % num_heads:
        raise ValueError(f"num_heads must divide embed_dim, got num_heads={num_heads} and embed_dim={embed_dim}")
    if not 0 <= drop_path_rate < 1:
        raise ValueError(f"drop_path_rate must be in [0, 1), got drop_path_rate={drop_path_rate}")
