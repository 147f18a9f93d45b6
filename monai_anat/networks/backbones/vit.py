"""Vision Transformer backbone with timm's parameter names, in 2D and 3D."""

# ruff: noqa: RUF005 (TorchScript cannot unpack lists)
from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.init import trunc_normal_
from torch.utils.checkpoint import checkpoint

from monai_anat.networks.backbones.backbone import (
    Backbone,
    is_scripting,
    pad_to_multiple,
    static_shape,
)
from monai_anat.networks.backbones.drop_path import drop_path_rates
from monai_anat.networks.backbones.positions import sincos_positions
from monai_anat.networks.backbones.prenorm_block import PreNormBlock, initialize_linear

__all__ = ["ViTBackbone"]

#: number of maps that forward_features returns: as many as a four-stage network, so that the same decoders fit
LEVELS = 4


class ViTBackbone(Backbone):
    """Vision Transformer (arXiv:2010.11929): self-attention between all patches of the image.

    The defaults are ViT-B/16 at 224 pixels, which POPAR^-3 and PEAC^-3 use. The other ViT of PEAC and ACE has 448
    pixels and patches of 32. All maps have one stride. Images may have any size: the learned position embedding is
    interpolated to the image's grid (bicubic in 2D, trilinear in 3D), and the image is zero-padded at the right and
    bottom to whole patches.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: number of image channels.
        image_size: image side in pixels for which positions are learned, one number for all axes or one per axis.
        patch_size: side of a patch in pixels, the stride of all maps.
        embed_dim: number of channels of the tokens.
        depth: number of blocks.
        num_heads: number of attention heads.
        mlp_ratio: hidden width of the perceptron relative to the channels.
        norm_eps: epsilon of every LayerNorm.
        drop_path_rate: stochastic depth rate of the last block, rising linearly from 0 in the first.
        class_token: put a learned token before the patches. It takes part in attention and is not part of the maps.
        use_checkpoint: recompute each block in the backward pass. Saves memory, costs one forward pass.

    Raises:
        ValueError: if ``image_size`` is no multiple of ``patch_size``, ``embed_dim`` no multiple of ``num_heads``, or a
            number is out of range.

    Example:
        >>> backbone = ViTBackbone(image_size=64, embed_dim=24, depth=4, num_heads=3)
        >>> [tuple(f.shape) for f in backbone.forward_features(torch.zeros(1, 1, 64, 96))]
        [(1, 24, 4, 6), (1, 24, 4, 6), (1, 24, 4, 6), (1, 24, 4, 6)]
    """

    supports_masking = True
    supports_visible = True
    supports_fixed_positions = True
    supports_stages = True

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
        # the maps come from evenly spaced depths, the last one from the end
        levels = min(LEVELS, depth)
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=(embed_dim,) * levels,
            strides=(patch_size,) * levels,
        )
        self.level_ends = [depth * (level + 1) // levels for level in range(levels)]
        self.grid = [side // patch_size for side in size]
        self.patch_size = patch_size
        self.use_checkpoint = use_checkpoint
        self.patch_embed = _PatchProjection(spatial_dims, in_channels, embed_dim, patch_size)
        self.num_prefix_tokens = int(class_token)
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
        """Compute maps from evenly spaced depths, all at stride ``patch_size``.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.

        Returns:
            Maps (B, embed_dim, h, w[, d]), stored channels last. The last one has passed the final normalization.

        Raises:
            ValueError: if the image has another rank or number of channels than the backbone.
        """
        return self.forward_patches(self.embed_patches(x))

    def forward_stage(self, stage: int, inputs: list[Tensor]) -> list[Tensor]:
        """Compute one stage, the blocks between two maps; see :meth:`Backbone.forward_stage`."""
        if stage == 0:
            patches = self.embed_patches(inputs[0])
            tokens = self._embed_tokens(patches)
            grid = static_shape(patches)[1:-1]
        else:
            patches = inputs[0].movedim(1, -1)
            tokens = torch.cat(inputs[1:] + [patches.flatten(1, -2)], dim=1)
            grid = static_shape(inputs[0])[2:]
        first = 0 if stage == 0 else self.level_ends[stage - 1]
        tokens = self._run_blocks(tokens, first, self.level_ends[stage])
        if stage == len(self.level_ends) - 1:
            tokens = self.norm(tokens)
        outputs = [self._to_map(tokens, grid)]
        if self.num_prefix_tokens:
            outputs.append(tokens[:, : self.num_prefix_tokens])
        return outputs

    def embed_patches(self, x: Tensor) -> Tensor:
        """Embed the patches of an image: (B, in_channels, H, W[, D]) -> (B, h, w[, d], embed_dim)."""
        self.check_input(x)
        patches: Tensor = self.patch_embed(x)
        return patches

    def forward_patches(self, patches: Tensor) -> list[Tensor]:
        """Compute the feature maps of embedded patches; see :meth:`Backbone.forward_patches`."""
        grid = static_shape(patches)[1:-1]
        tokens = self._embed_tokens(patches)  # (B, [1 +] N, D)
        maps: list[Tensor] = []
        first = 0
        for end in self.level_ends:
            tokens = self._run_blocks(tokens, first, end)
            first = end
            maps.append(self._to_map(self.norm(tokens) if len(maps) == len(self.level_ends) - 1 else tokens, grid))
        return maps

    def forward_visible(self, x: Tensor, visible: Tensor) -> Tensor:
        """Encode some patches of an image without the others; see :meth:`Backbone.forward_visible`."""
        self.check_input(x)
        patches = self.patch_embed(x)  # (B, h, w, D)
        tokens = patches.flatten(1, -2) + self.position_embedding(static_shape(patches)[1:-1])  # (B, N, D)
        tokens = tokens.gather(1, visible[:, :, None].expand(-1, -1, self.num_features))  # (B, K, D)
        tokens = self._with_class_token(tokens)
        tokens = self._run_blocks(tokens, 0, len(self.blocks))
        normed: Tensor = self.norm(tokens)
        return normed[:, self.num_prefix_tokens :] if self.num_prefix_tokens else normed

    def fix_positions(self) -> None:
        """Replace the learned positions by fixed sines and cosines (0 for the class token), which are not trained."""
        positions = sincos_positions(self.num_features, self.grid)
        with torch.no_grad():
            self.pos_embed.zero_()
            self.pos_embed[0, -len(positions) :] = positions
        self.pos_embed.requires_grad_(False)

    def position_embedding(self, grid: list[int]) -> Tensor:
        """Compute the embedding of the patch positions, interpolated if the grid is not that of ``image_size``.

        Args:
            grid: number of patches per axis, (h, w[, d]).

        Returns:
            (1, N, embed_dim), in row-major order.
        """
        embedding = self.pos_embed if self.cls_token is None else self.pos_embed[:, 1:]
        if list(grid) == self.grid:
            return embedding
        as_map = embedding.reshape([1] + self.grid + [self.num_features]).movedim(-1, 1)  # (1, D, h, w)
        mode = "bicubic" if self.spatial_dims == 2 else "trilinear"
        return F.interpolate(as_map, size=list(grid), mode=mode).flatten(2).transpose(1, 2)

    def _embed_tokens(self, patches: Tensor) -> Tensor:
        grid = static_shape(patches)[1:-1]
        return self._with_class_token(patches.flatten(1, -2) + self.position_embedding(grid))

    def _with_class_token(self, tokens: Tensor) -> Tensor:
        if self.cls_token is None:
            return tokens
        first = self.cls_token + self.pos_embed[:, :1]
        return torch.cat([first.expand(tokens.shape[0], -1, -1), tokens], dim=1)

    def _run_blocks(self, tokens: Tensor, first: int, end: int) -> Tensor:
        recompute = self.use_checkpoint and self.training and torch.is_grad_enabled()
        for number, block in enumerate(self.blocks):
            if first <= number and number < end:  # TorchScript has no chained comparison
                if is_scripting():
                    tokens = block(tokens)
                else:
                    tokens = checkpoint(block, tokens, use_reentrant=False) if recompute else block(tokens)
        return tokens

    def _to_map(self, tokens: Tensor, grid: list[int]) -> Tensor:
        if self.num_prefix_tokens:
            tokens = tokens[:, self.num_prefix_tokens :]
        return tokens.reshape([-1] + grid + [self.num_features]).movedim(-1, 1)  # (B, D, h, w)


class _PatchProjection(nn.Module):
    """Embed non-overlapping patches: (B, C, H, W[, D]) -> (B, h, w[, d], E)."""

    def __init__(self, spatial_dims: int, in_channels: int, embed_dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.proj: nn.Module = convolution(in_channels, embed_dim, patch_size, patch_size)

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
