"""The contract that every backbone of this package keeps, and the two ways to read a feature map."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Backbone", "Between", "Perceptron", "drop_path_rates", "pad_to_multiple", "static_shape", "to_tokens"]

#: (number of the stage, its map) -> the map (of the same shape) that the next stage starts from
Between = Callable[[int, Tensor], Tensor]


class Backbone(nn.Module, ABC):
    """A feature network: one image in, feature maps from fine to coarse out.

    Methods, decoders and probes only use what stands here, so that any backbone works with any of them.
    A subclass takes keyword arguments only, hands them to this constructor as ``config`` and so can be rebuilt from
    the record that :func:`monai_anat.networks.save_encoder` writes.

    Args:
        config: keyword arguments that build this backbone again; plain JSON values.
        spatial_dims: 2 or 3.
        in_channels: channels of the image.
        channels: channels of each feature map, fine to coarse.
        strides: pixels per position of each feature map, fine to coarse.

    Attributes:
        num_features: channels of the last map.
        stage_channels: channels of each map of :meth:`forward_stages`; equal to ``channels`` by default.
        stage_strides: pixels per position of each map of :meth:`forward_stages`.
        patch_size: side of an embedded patch in pixels; 0 for a backbone without a patch embedding.
        supports_masking: whether :meth:`embed_patches` and :meth:`forward_patches` work, so that a mask token can
            replace patches.
        supports_visible: whether :meth:`forward_visible` works, so that some patches can be encoded without the others.
        supports_fixed_positions: whether :meth:`fix_positions` works.

    Raises:
        ValueError: when ``spatial_dims`` is neither 2 nor 3, or ``in_channels`` is not positive.
    """

    supports_masking: bool = False
    supports_visible: bool = False
    supports_fixed_positions: bool = False

    def __init__(
        self,
        config: dict[str, Any],
        *,
        spatial_dims: int,
        in_channels: int,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got spatial_dims={spatial_dims}")
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got in_channels={in_channels}")
        self.config = config
        self.spatial_dims = spatial_dims
        self.in_channels = in_channels
        self.channels = channels
        self.strides = strides
        self.num_features = channels[-1]
        self.stage_channels = channels
        self.stage_strides = strides
        self.patch_size = 0

    @abstractmethod
    def forward_features(self, x: Tensor) -> list[Tensor]:
        """Feature maps (B, C, h, w[, d]) of the image ``x`` (B, in_channels, H, W[, D]), fine to coarse.

        The last map has passed the final normalization layer, where the network has one.
        """

    def forward(self, x: Tensor) -> Tensor:
        """The last feature map (B, num_features, h, w[, d]) of ``x`` (B, in_channels, H, W[, D])."""
        return self.forward_features(x)[-1]

    def forward_stages(self, x: Tensor, between: Between | None = None) -> list[Tensor]:
        """Feature maps of all stages, a stem included, with a say in what each stage hands to the next.

        Args:
            x: image (B, in_channels, H, W[, D]).
            between: called as ``between(s, map)`` for every stage but the last; the next stage starts from what it
                returns. The maps returned are those before it.

        Returns:
            Maps (B, stage_channels[s], h, w[, d]); the last ones are those of :meth:`forward_features`.

        Raises:
            TypeError: for a network that cannot be entered between its stages.
        """
        if between is not None:
            raise TypeError(
                f"{type(self).__name__} cannot be entered between its stages, so it takes no gates; use a backbone "
                "of this package, or leave the gates away (gates=False)"
            )
        return self.forward_features(x)

    def embed_patches(self, x: Tensor) -> Tensor:
        """Embed the patches of an image, without the blocks.

        Args:
            x: image (B, in_channels, H, W[, D]).

        Returns:
            Embedded patches (B, h, w[, d], channels[0]), for :meth:`forward_patches`.

        Raises:
            TypeError: if the backbone has no patch embedding (``supports_masking`` is False).
        """
        raise TypeError(f"{type(self).__name__} has no patch embedding; use a SwinBackbone or a ViTBackbone")

    def forward_patches(self, patches: Tensor) -> list[Tensor]:
        """Compute the feature maps of embedded patches, some of which may have been replaced.

        Args:
            patches: embedded patches (B, h, w[, d], channels[0]), as :meth:`embed_patches` returns them.

        Returns:
            Maps as from :meth:`forward_features`.

        Raises:
            TypeError: if the backbone has no patch embedding (``supports_masking`` is False).
        """
        raise TypeError(f"{type(self).__name__} has no patch embedding; use a SwinBackbone or a ViTBackbone")

    def forward_visible(self, x: Tensor, visible: Tensor) -> Tensor:
        """Encode some patches of an image without the others.

        Args:
            x: image (B, in_channels, H, W[, D]).
            visible: (B, K) int64, row-major indices of the patches to encode, all different.

        Returns:
            Tokens (B, K, num_features) after the final normalization.

        Raises:
            TypeError: if the backbone needs all patches (``supports_visible`` is False).
        """
        raise TypeError(f"{type(self).__name__} needs all patches of an image; use a ViTBackbone")

    def fix_positions(self) -> None:
        """Replace the learned positions by fixed sines and cosines, which are not trained.

        Raises:
            TypeError: if the backbone has no positions to replace (``supports_fixed_positions`` is False).
        """
        raise TypeError(f"{type(self).__name__} has no learned positions; use a ViTBackbone")

    def compile(self, *args: Any, **kwargs: Any) -> None:
        """Compile the network in place with ``torch.compile``, by each ``forward`` that a method may enter it by.

        Args:
            args: for ``torch.compile``.
            kwargs: for ``torch.compile``.
        """
        super().compile(*args, **kwargs)
        for name in dir(type(self)):
            if name.startswith("forward_"):
                compiled = torch.compile(getattr(type(self), name), *args, **kwargs)
                setattr(self, name, MethodType(compiled, self))  # bound, so that a copy of the network calls itself

    def check_input(self, x: Tensor) -> None:
        """Raise a readable error for an input of the wrong rank or with the wrong number of channels.

        Raises:
            ValueError: naming both shapes and the way out.
        """
        if x.dim() != self.spatial_dims + 2:
            raise ValueError(
                f"x must have {self.spatial_dims + 2} dimensions (batch, channel, then space) for "
                f"spatial_dims={self.spatial_dims}, got shape {tuple(x.shape)}; add the batch dimension by x[None]"
            )
        # a size is compared with a constant: read it as a plain number, so that a trace does not record the question
        if static_shape(x)[1] != self.in_channels:
            raise ValueError(
                f"x must have {self.in_channels} channel(s) in dimension 1, got shape {tuple(x.shape)}; "
                f"convert the image, or build the backbone with in_channels={x.shape[1]}"
            )


def to_tokens(feature_map: Tensor) -> Tensor:
    """Flatten a feature map into tokens, row by row.

    Args:
        feature_map: (B, D, h, w[, d]).

    Returns:
        Tokens (B, N, D), where token ``row * w + col`` is position (row, col). No copy when the map is stored
        channels last, as the maps of :class:`~monai_anat.networks.SwinBackbone` are.

    Example:
        >>> feature_map = torch.arange(6.0).reshape(1, 1, 2, 3)
        >>> to_tokens(feature_map)[0, :, 0].tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    return feature_map.flatten(2).transpose(1, 2)  # (B, N, D)


def static_shape(x: Tensor) -> tuple[int, ...]:
    """The shape as plain integers; a trace keeps them as constants, which is what a size-dependent layout means."""
    if not torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
        return tuple(x.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python integer")
        return tuple(int(size) for size in x.shape)


def pad_to_multiple(x: Tensor, multiple: int, first_axis: int) -> Tensor:
    """Zero-pad the spatial axes at their far ends; ``first_axis`` is 1 for channels last, 2 for channels first."""
    shape = static_shape(x)
    spatial = shape[first_axis : len(shape) - (1 if first_axis == 1 else 0)]
    missing = [-side % multiple for side in spatial]
    if not any(missing):
        return x
    trailing = [0, 0] if first_axis == 1 else []
    return F.pad(x, trailing + [n for m in reversed(missing) for n in (0, m)])


class Perceptron(nn.Module):
    """The two-layer perceptron of a transformer block, under the names of published files: fc1, GELU, fc2."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(..., channels) -> the same shape."""
        x = self.fc2(F.gelu(self.fc1(x)))
        return x


def drop_path_rates(last: float, blocks: int) -> list[float]:
    """Stochastic depth of each block, from 0 in the first to ``last`` in the last."""
    return [last * number / max(1, blocks - 1) for number in range(blocks)]
