"""Swin Transformer backbone with the official parameter names, in 2D and 3D."""

# ruff: noqa: RUF005 (TorchScript cannot unpack lists)
from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn.init import trunc_normal_
from torch.utils.checkpoint import checkpoint

from monai_anat.networks.backbones.attention import attend
from monai_anat.networks.backbones.backbone import (
    Backbone,
    is_scripting,
    is_tracing,
    pad_to_multiple,
    static_shape,
)
from monai_anat.networks.backbones.drop_path import drop_path_rates
from monai_anat.networks.backbones.prenorm_block import PreNormBlock, initialize_linear

__all__ = ["SwinBackbone"]

#: number of shift masks kept; a network needs at most two per stage and image size
MASK_CACHE_SIZE = 64

_MaskKey = tuple[tuple[int, ...], int, tuple[int, ...], torch.device]
_shift_masks: dict[_MaskKey, Tensor] = {}


class SwinBackbone(Backbone):
    """Swin Transformer (arXiv:2103.14030): self-attention inside windows that shift from block to block.

    The defaults are Swin-B as POPAR, PEAC, Lamps and ACE use it. Parameter names are those of the official network.
    Images may have any size: an image is zero-padded at the right and bottom to whole patches, a feature map to whole
    windows (after the first normalization of a block, unmasked, cropped afterwards) and to an even size where patches
    merge. A map that is smaller than a window is padded to the window size, so that relative positions keep their
    meaning. A block shifts its windows if the map is larger than the window.

    Differs from the released code: Lamps and ACE decide on the shift when the network is built for 448 pixels, so at
    224 pixels their last stage still shifts. There features differ; at 448 pixels they agree.
    In 3D, where no official network exists, the shift is decided for each axis separately, because volumes are often
    flat.

    Args:
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: number of image channels.
        embed_dim: number of channels of the first stage. Each stage doubles it.
        depths: number of blocks of each stage, for any number of stages.
        num_heads: number of attention heads of each stage.
        window_size: side of a window, in positions of the feature map.
        patch_size: side of a patch in pixels. Stage s has stride ``patch_size * 2 ** s``.
        norm_eps: epsilon of every LayerNorm; 1e-5 in POPAR and PEAC, 1e-6 in Lamps and ACE.
        drop_path_rate: stochastic depth rate of the last block, rising linearly from 0 in the first.
        mlp_ratio: hidden width of the perceptron relative to the channels.
        use_checkpoint: recompute each block in the backward pass. Saves memory, costs one forward pass.

    Raises:
        ValueError: if ``depths`` and ``num_heads`` differ in length, or a stage's channels are not divisible by its
            heads.

    Example:
        >>> backbone = SwinBackbone(embed_dim=24, depths=(1, 1, 2), num_heads=(1, 2, 4), patch_size=2)
        >>> [tuple(f.shape) for f in backbone.forward_features(torch.zeros(1, 1, 112, 112))]
        [(1, 24, 56, 56), (1, 48, 28, 28), (1, 96, 14, 14)]
    """

    supports_masking = True
    supports_stages = True

    def __init__(
        self,
        *,
        spatial_dims: int = 2,
        in_channels: int = 1,
        embed_dim: int = 128,
        depths: Sequence[int] = (2, 2, 18, 2),
        num_heads: Sequence[int] = (4, 8, 16, 32),
        window_size: int = 7,
        patch_size: int = 4,
        norm_eps: float = 1e-5,
        drop_path_rate: float = 0.0,
        mlp_ratio: float = 4.0,
        use_checkpoint: bool = False,
    ) -> None:
        stages = len(depths)
        _check_arguments(embed_dim, depths, num_heads, window_size, patch_size, drop_path_rate)
        super().__init__(
            spatial_dims=spatial_dims,
            in_channels=in_channels,
            channels=tuple(embed_dim * 2**s for s in range(stages)),
            strides=tuple(patch_size * 2**s for s in range(stages)),
        )
        self.window_size = window_size
        self.patch_size = patch_size
        self.use_checkpoint = use_checkpoint
        self.patch_embed = _PatchEmbedding(spatial_dims, in_channels, embed_dim, patch_size, norm_eps)
        rates = drop_path_rates(drop_path_rate, sum(depths))
        self.layers = nn.ModuleList(
            _Stage(
                spatial_dims=spatial_dims,
                channels=self.channels[s],
                num_heads=num_heads[s],
                window_size=window_size,
                mlp_ratio=mlp_ratio,
                norm_eps=norm_eps,
                drop_path_rates=rates[sum(depths[:s]) : sum(depths[: s + 1])],
                merges=s + 1 < stages,
            )
            for s in range(stages)
        )
        self.norm = nn.LayerNorm(self.num_features, eps=norm_eps)
        self.apply(_initialize)

    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Compute one feature map per stage, before the patch merging that ends the stage.

        Args:
            x: image (B, in_channels, H, W[, D]) of any size.

        Returns:
            Maps (B, channels[s], h, w[, d]), stored channels last. The last one has passed the final normalization.

        Raises:
            ValueError: if the image has another rank or number of channels than the backbone.
        """
        return self.forward_patches(self.embed_patches(x))

    def forward_stage(self, stage: int, inputs: list[Tensor]) -> list[Tensor]:
        """Compute one stage; see :meth:`Backbone.forward_stage`."""
        x = self.embed_patches(inputs[0]) if stage == 0 else inputs[0].movedim(1, -1)
        for number, layer in enumerate(self.layers):
            if number == stage:
                x = layer(x, self._recomputes())
            if number == stage - 1:
                x = layer.merge(x)  # type: ignore[operator]
        if stage == len(self.layers) - 1:
            x = self.norm(x)
        return [x.movedim(-1, 1)]

    def embed_patches(self, x: Tensor) -> Tensor:
        """Embed the patches of an image: (B, in_channels, H, W[, D]) -> (B, h, w[, d], embed_dim)."""
        self.check_input(x)
        patches: Tensor = self.patch_embed(x)
        return patches

    def forward_patches(self, patches: Tensor) -> list[Tensor]:
        """Compute the feature maps of embedded patches; see :meth:`Backbone.forward_patches`."""
        recompute = self._recomputes()
        maps: list[Tensor] = []
        for layer in self.layers:
            patches = layer(patches, recompute)
            maps.append(patches.movedim(-1, 1))  # (B, C, h, w)
            patches = layer.merge(patches)  # type: ignore[operator]
        maps[-1] = self.norm(patches).movedim(-1, 1)
        return maps

    def _recomputes(self) -> bool:
        return self.use_checkpoint and self.training and torch.is_grad_enabled()


class _PatchEmbedding(nn.Module):
    """Embed and normalize non-overlapping patches: (B, C, H, W[, D]) -> (B, h, w[, d], E)."""

    def __init__(self, spatial_dims: int, in_channels: int, embed_dim: int, patch_size: int, norm_eps: float) -> None:
        super().__init__()
        self.patch_size = patch_size
        convolution = nn.Conv2d if spatial_dims == 2 else nn.Conv3d
        self.proj: nn.Module = convolution(in_channels, embed_dim, patch_size, patch_size)
        self.norm = nn.LayerNorm(embed_dim, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, self.patch_size, first_axis=2)
        x = self.norm(self.proj(x).movedim(1, -1))
        return x


class _Stage(nn.Module):
    """Blocks at one resolution, every second of them shifted, and the patch merging that ends the stage."""

    def __init__(
        self,
        *,
        spatial_dims: int,
        channels: int,
        num_heads: int,
        window_size: int,
        mlp_ratio: float,
        norm_eps: float,
        drop_path_rates: Sequence[float],
        merges: bool,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            PreNormBlock(
                channels,
                num_heads,
                mlp_ratio,
                norm_eps,
                rate,
                _WindowAttention(spatial_dims, channels, num_heads, window_size, window_size // 2 if b % 2 else 0),
            )
            for b, rate in enumerate(drop_path_rates)
        )
        self.downsample = _PatchMerging(spatial_dims, channels, norm_eps) if merges else None

    def forward(self, x: Tensor, recompute: bool) -> Tensor:
        """Compute the map (B, h, w[, d], C) after the blocks, before the patch merging."""
        for block in self.blocks:
            if is_scripting():
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=False) if recompute else block(x)
        return x

    def merge(self, x: Tensor) -> Tensor:
        """Merge patches; the last stage returns the map as it is."""
        if self.downsample is not None:
            x = self.downsample(x)
        return x


class _WindowAttention(nn.Module):
    """Self-attention inside (shifted) windows with a learned bias per relative position.

    The query, key and value layers act on the whole map. Partitioning into windows and splitting the heads is then one
    rearrangement, and undoing both is another one.
    """

    def __init__(self, spatial_dims: int, channels: int, num_heads: int, window_size: int, shift: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift = shift
        self.spatial_dims = spatial_dims
        self.positions = window_size**spatial_dims
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)
        self.relative_position_bias_table = nn.Parameter(torch.zeros((2 * window_size - 1) ** spatial_dims, num_heads))
        self.relative_position_index: Tensor  # TorchScript cannot resolve this annotation in the class body
        # a constant, so not part of the state dict; files that hold it drop it
        index = _relative_position_index(spatial_dims, window_size)
        self.register_buffer("relative_position_index", index, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        size = static_shape(x)[1:-1]
        shift = self._shift_for(size)
        shifted = max(shift) > 0
        x = pad_to_multiple(x, self.window_size, first_axis=1)
        padded = static_shape(x)[1:-1]
        axes = [1 + d for d in range(self.spatial_dims)]
        if shifted:
            x = torch.roll(x, [-s for s in shift], axes)
        query, key, value = self._split(self.qkv(x), padded)
        bias = self._relative_bias()  # (heads, N, N)
        if shifted:
            # masks differ between windows: put windows beside the heads, so that the batch shares one bias tensor
            mask = _shift_mask(padded, self.window_size, shift, x.device)  # (windows, 1, N, N)
            bias = (bias + mask).reshape(1, -1, self.positions, self.positions)  # (1, windows * heads, N, N)
        else:
            bias = bias.unsqueeze(0)  # (1, heads, N, N)
        layout = [-1, static_shape(bias)[1], self.positions, static_shape(query)[-1]]
        out = attend(query.reshape(layout), key.reshape(layout), value.reshape(layout), bias.to(query.dtype))
        x = self._join(out, padded)
        if shifted:
            x = torch.roll(x, shift, axes)
        if padded != size:
            for d, side in enumerate(size):
                x = x.narrow(1 + d, 0, side)
        x = self.proj(x)
        return x

    def _shift_for(self, size: list[int]) -> list[int]:
        shift = [self.shift if side > self.window_size else 0 for side in size]
        # the official rule in 2D: no shift at all if the map is no larger than the window along any axis
        return shift if self.spatial_dims == 3 or min(shift) > 0 else [0 for _ in size]

    def _relative_bias(self) -> Tensor:
        # index_select and not table[index], whose backward pass adds up in an order that varies between runs
        bias = self.relative_position_bias_table.index_select(0, self.relative_position_index.flatten())
        return bias.view(self.positions, self.positions, self.num_heads).permute(2, 0, 1)  # (heads, N, N)

    def _split(self, qkv: Tensor, size: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, H, W, 3 * C) -> three tensors (B, windows, heads, N, C / heads)."""
        dims, window = self.spatial_dims, self.window_size
        width = static_shape(qkv)[-1] // (3 * self.num_heads)
        grid = _interleaved(size, window)
        qkv = qkv.reshape([-1] + grid + [3, self.num_heads, width])
        outer = [1 + 2 * d for d in range(dims)]
        inner = [2 + 2 * d for d in range(dims)]
        # (3, B, nh, nw, heads, wh, ww, C / heads)
        axes = [2 * dims + 1, 0] + outer + [2 * dims + 2] + inner + [2 * dims + 3]
        # the number of windows does not depend on the batch size, so the batch stays free in a trace
        windows = 1
        for side in size:
            windows *= side // window
        qkv = qkv.permute(axes).contiguous().view([3, -1, windows, self.num_heads, self.positions, width])
        query, key, value = qkv.unbind(0)
        return query, key, value

    def _join(self, out: Tensor, size: list[int]) -> Tensor:
        """(B * windows * heads, N, C / heads) in any split of the first axis -> (B, H, W, C)."""
        dims, window = self.spatial_dims, self.window_size
        width = static_shape(out)[-1]
        windows = [side // window for side in size]
        out = out.reshape([-1] + windows + [self.num_heads] + [window for _ in size] + [width])
        axes = [0]
        for d in range(dims):
            axes = axes + [1 + d, 2 + dims + d]
        out = out.permute(axes + [1 + dims, 2 + 2 * dims])  # (B, nh, wh, nw, ww, heads, C / heads)
        return out.reshape([-1] + size + [self.num_heads * width])


class _PatchMerging(nn.Module):
    """Halve the resolution: concatenate neighbors (first axis fastest), normalize and mix them linearly."""

    def __init__(self, spatial_dims: int, channels: int, norm_eps: float) -> None:
        super().__init__()
        neighbors = 2**spatial_dims
        self.spatial_dims = spatial_dims
        self.reduction = nn.Linear(neighbors * channels, 2 * channels, bias=False)
        self.norm = nn.LayerNorm(neighbors * channels, eps=norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        x = pad_to_multiple(x, 2, first_axis=1)
        dims, size = self.spatial_dims, static_shape(x)[1:]
        x = x.reshape([-1] + _interleaved(size[:-1], 2) + size[-1:])  # (B, h, 2, w, 2, C)
        # offsets in the order (0, 0), (1, 0), (0, 1), (1, 1): the last axis varies slowest
        offsets = [2 * dims - 2 * d for d in range(dims)]
        x = x.permute([0] + [1 + 2 * d for d in range(dims)] + offsets + [2 * dims + 1]).flatten(dims + 1)
        x = self.reduction(self.norm(x))
        return x


def _check_arguments(
    embed_dim: int,
    depths: Sequence[int],
    num_heads: Sequence[int],
    window_size: int,
    patch_size: int,
    drop_path_rate: float,
) -> None:
    if len(depths) != len(num_heads) or not depths:
        raise ValueError(
            "depths and num_heads must name the same number of stages, at least one, got "
            f"depths={tuple(depths)} and num_heads={tuple(num_heads)}"
        )
    if min(*depths, window_size, patch_size, embed_dim, *num_heads) < 1:
        raise ValueError(
            "depths, num_heads, embed_dim, window_size and patch_size must be at least 1, got "
            f"depths={tuple(depths)}, num_heads={tuple(num_heads)}, embed_dim={embed_dim}, "
            f"window_size={window_size}, patch_size={patch_size}"
        )
    if not 0 <= drop_path_rate < 1:
        raise ValueError(f"drop_path_rate must be in [0, 1), got drop_path_rate={drop_path_rate}")
    for stage, heads in enumerate(num_heads):
        channels = embed_dim * 2**stage
        if channels % heads:
            raise ValueError(
                f"num_heads[{stage}] must divide the stage's {channels} channels (embed_dim * 2 ** {stage}), "
                f"got num_heads={tuple(num_heads)} and embed_dim={embed_dim}"
            )


def _initialize(module: nn.Module) -> None:
    initialize_linear(module)
    if isinstance(module, _WindowAttention):
        trunc_normal_(module.relative_position_bias_table, std=0.02)


def _interleaved(size: list[int], window: int) -> list[int]:
    """Sizes (H, W) -> (H / window, window, W / window, window)."""
    grid: list[int] = []
    for side in size:
        grid = grid + [side // window, window]
    return grid


def _relative_position_index(spatial_dims: int, window_size: int) -> Tensor:
    """(N, N) row of the bias table for query i and key j: their offset, first axis most significant."""
    positions = torch.tensor(list(product(range(window_size), repeat=spatial_dims)))  # (N, dims)
    offsets = positions[:, None] - positions[None] + window_size - 1  # (N, N, dims), from 0
    weights = torch.tensor([(2 * window_size - 1) ** d for d in reversed(range(spatial_dims))])
    return (offsets * weights).sum(-1)


def _shift_mask(size: list[int], window: int, shift: list[int], device: torch.device) -> Tensor:
    """(windows, 1, N, N) scores that separate positions which only the cyclic shift brought into one window."""
    if is_scripting():
        return _build_shift_mask(size, window, shift, device)
    else:  # noqa: RET505 (TorchScript compiles only the branch that it takes)
        return _cached_shift_mask(size, window, shift, device)


@torch.jit.unused
def _cached_shift_mask(size: list[int], window: int, shift: list[int], device: torch.device) -> Tensor:
    # what a compiler or tracer records must not outlive it, and a tracer that runs twice must see the same twice
    if torch.compiler.is_compiling() or is_tracing():
        return _build_shift_mask(size, window, shift, device)
    key = (tuple(size), window, tuple(shift), device)
    if key not in _shift_masks:
        if len(_shift_masks) >= MASK_CACHE_SIZE:  # images of many sizes must not fill the memory
            _shift_masks.clear()
        with torch.inference_mode(False):  # otherwise a mask first used in inference could not take part in training
            _shift_masks[key] = _build_shift_mask(size, window, shift, device)
    return _shift_masks[key]


def _build_shift_mask(size: list[int], window: int, shift: list[int], device: torch.device) -> Tensor:
    dims = len(size)
    region = torch.zeros([1 for _ in size], dtype=torch.long, device=device)
    for axis in range(dims):
        side, step = size[axis], shift[axis]
        position = torch.arange(side, device=device)
        # 0 before the last window, 1 in it, 2 for what was rolled in from the other end; all 0 without a shift
        label = (position >= side - window).long() + (position >= side - step).long() if step else position * 0
        region = region * 3 + label.view([-1 if a == axis else 1 for a in range(dims)])
    axes = [2 * d for d in range(dims)] + [1 + 2 * d for d in range(dims)]
    region = region.reshape(_interleaved(size, window)).permute(axes).flatten(dims).flatten(0, dims - 1)  # (windows, N)
    apart = region[:, :, None] != region[:, None, :]
    return (apart * -100.0).unsqueeze(1)  # the official network's value for positions that must not see each other
