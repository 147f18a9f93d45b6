"""Backbone base class and conversions of feature maps."""

from __future__ import annotations

import functools
import inspect
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Backbone", "is_scripting", "is_tracing", "pad_to_multiple", "static_shape", "to_tokens"]

_ARGUMENTS = "_constructor_arguments"
#: whether code is compiled by ``torch.jit.script``, which then skips the other branch
is_scripting: Callable[[], bool] = torch.jit.is_scripting  # type: ignore[attr-defined]
#: whether ``torch.jit.trace`` is running
is_tracing: Callable[[], bool] = torch.jit.is_tracing  # type: ignore[attr-defined]


class Backbone(nn.Module, ABC):
    """Base class of feature extractors that map an image to feature maps, fine to coarse.

    Methods, decoders and probes use only what this class defines, so any backbone works with any of them. Subclasses
    take keyword arguments only and implement :meth:`forward_features`. The arguments of a subclass's constructor are
    recorded in ``config``, from which :func:`monai_anat.networks.load_encoder` builds the network again.

    Args:
        config: overrides the recorded constructor arguments. Needed only if these are not JSON values.
        spatial_dims: 2 for images, 3 for volumes.
        in_channels: number of image channels.
        channels: number of channels of each feature map, fine to coarse.
        strides: stride of each feature map in pixels, fine to coarse.

    Attributes:
        config: keyword arguments that build this backbone again, as JSON values.
        num_features: number of channels of the last map.
        stage_channels: number of channels of each map of :meth:`forward_stages`; equal to ``channels`` by default.
        stage_strides: stride of each map of :meth:`forward_stages` in pixels.
        patch_size: side of an embedded patch in pixels; 0 for a backbone without a patch embedding.
        supports_masking: whether :meth:`embed_patches` and :meth:`forward_patches` work, so that a mask token can
            replace patches.
        supports_visible: whether :meth:`forward_visible` works, so that some patches can be encoded without the others.
        supports_fixed_positions: whether :meth:`fix_positions` works.
        supports_stages: whether :meth:`forward_stage` works, so that gates can be inserted between stages.

    Raises:
        ValueError: if ``spatial_dims`` is neither 2 nor 3, or ``in_channels`` is not positive.
    """

    supports_masking: bool = False
    supports_visible: bool = False
    supports_fixed_positions: bool = False
    supports_stages: bool = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "__init__" in cls.__dict__:
            cls.__init__ = _recording(cls.__init__)  # type: ignore[method-assign]

    def __init__(
        self,
        config: dict[str, Any] | None = None,
        *,
        spatial_dims: int,
        in_channels: int,
        channels: tuple[int, ...],
        strides: tuple[int, ...],
    ) -> None:
        recorded: dict[str, Any] = self.__dict__.pop(_ARGUMENTS, {})
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got spatial_dims={spatial_dims}")
        if in_channels < 1:
            raise ValueError(f"in_channels must be at least 1, got in_channels={in_channels}")
        self.config = recorded if config is None else config
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
        """Compute the feature maps of an image.

        Args:
            x: image (B, in_channels, H, W[, D]).

        Returns:
            Maps (B, channels[s], h, w[, d]), fine to coarse. The last map has passed the final normalization layer, if
            the network has one.
        """

    def forward(self, x: Tensor) -> Tensor:
        """Compute the last feature map (B, num_features, h, w[, d]) of an image (B, in_channels, H, W[, D])."""
        return self.forward_features(x)[-1]

    def forward_stages(self, x: Tensor) -> list[Tensor]:
        """Compute the feature maps of all stages, including the stem.

        Args:
            x: image (B, in_channels, H, W[, D]).

        Returns:
            Maps (B, stage_channels[s], h, w[, d]). The last ones are those of :meth:`forward_features`.
        """
        return self.forward_features(x)

    def forward_stage(self, stage: int, inputs: list[Tensor]) -> list[Tensor]:
        """Compute one stage of :meth:`forward_stages`.

        Args:
            stage: index of the stage.
            inputs: the image for stage 0; otherwise the output of the previous stage, in which the map (the first
                entry) may have been replaced.

        Returns:
            The map (B, stage_channels[stage], h, w[, d]), followed by tensors that the next stage needs, such as class
            tokens.

        Raises:
            TypeError: if the network cannot be run stage by stage (``supports_stages`` is False).
        """
        raise TypeError("this network cannot be run stage by stage; use a backbone of monai_anat.networks")

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
        """Compile the network in place with ``torch.compile``, including every ``forward_*`` method.

        Args:
            args: positional arguments of ``torch.compile``.
            kwargs: keyword arguments of ``torch.compile``.
        """
        super().compile(*args, **kwargs)
        for name in dir(type(self)):
            if name.startswith("forward_"):
                compiled = torch.compile(getattr(type(self), name), *args, **kwargs)
                setattr(self, name, MethodType(compiled, self))  # bound, so that a copy of the network calls itself

    def check_input(self, x: Tensor) -> None:
        """Check the rank and the number of channels of an image.

        Args:
            x: image (B, in_channels, H, W[, D]).

        Raises:
            ValueError: if they differ from those of the backbone. The message names both shapes and the way out.
        """
        if x.dim() != self.spatial_dims + 2:
            raise ValueError(
                f"x must have {self.spatial_dims + 2} dimensions (batch, channel, then space) for "
                f"spatial_dims={self.spatial_dims}, got shape {_shown(x)}; add the batch dimension by x[None]"
            )
        # read the size as a plain number, so that a trace does not record the comparison
        channels = static_shape(x)[1]
        if channels != self.in_channels:
            raise ValueError(
                f"x must have {self.in_channels} channel(s) in dimension 1, got shape {_shown(x)}; "
                f"convert the image, or build the backbone with in_channels={channels}"
            )


def _recording(init: Callable[..., None]) -> Callable[..., None]:
    """Wrap a constructor so that the arguments of the outermost one are kept for ``Backbone.config``."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def recording(self: Backbone, *args: Any, **kwargs: Any) -> None:
        if _ARGUMENTS not in self.__dict__:
            bound = signature.bind(self, *args, **kwargs)
            bound.apply_defaults()
            values = list(bound.arguments.items())[1:]
            self.__dict__[_ARGUMENTS] = {name: _as_json(value) for name, value in values}
        init(self, *args, **kwargs)

    return recording


def _as_json(value: Any) -> Any:
    """Convert sequences to lists and a backbone to its class name and arguments; keep everything else."""
    if isinstance(value, Backbone):
        return {"backbone": type(value).__name__, "kwargs": value.config}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_as_json(entry) for entry in value]
    return value


def to_tokens(feature_map: Tensor) -> Tensor:
    """Flatten a feature map into tokens in row-major order.

    Args:
        feature_map: (B, D, h, w[, d]).

    Returns:
        Tokens (B, N, D), where token ``row * w + col`` is position (row, col). The tokens are a view if the map is
        stored channels last, as the maps of :class:`~monai_anat.networks.SwinBackbone` are.

    Example:
        >>> feature_map = torch.arange(6.0).reshape(1, 1, 2, 3)
        >>> to_tokens(feature_map)[0, :, 0].tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]
    """
    return feature_map.flatten(2).transpose(1, 2)  # (B, N, D)


def static_shape(x: Tensor) -> list[int]:
    """Read a shape as plain integers, which a trace keeps as constants.

    Args:
        x: any tensor.

    Returns:
        The size of every axis.

    >>> static_shape(torch.zeros(2, 3))
    [2, 3]
    """
    if is_scripting():
        return list(x.shape)
    else:  # noqa: RET505 (TorchScript compiles only the branch that it takes)
        return _static_shape(x)


def pad_to_multiple(x: Tensor, multiple: int, first_axis: int) -> Tensor:
    """Zero-pad the spatial axes at their far ends.

    Args:
        x: channels first, (B, C, H, W[, D]), or channels last, (B, H, W[, D], C).
        multiple: every spatial side of the result is a multiple of this number.
        first_axis: the first spatial axis; 1 for channels last, 2 for channels first.

    Returns:
        The padded tensor, or ``x`` itself if nothing is missing.

    >>> pad_to_multiple(torch.zeros(1, 1, 5, 8), 4, first_axis=2).shape
    torch.Size([1, 1, 8, 8])
    """
    shape = static_shape(x)
    last_axis = len(shape) - 2 if first_axis == 1 else len(shape) - 1
    padding: list[int] = []
    if first_axis == 1:
        padding = [0, 0]
    missing = 0
    for offset in range(last_axis - first_axis + 1):
        far_end = -shape[last_axis - offset] % multiple
        missing += far_end
        padding = padding + [0, far_end]  # noqa: RUF005 (TorchScript has no unpacking)
    return F.pad(x, padding) if missing else x


@torch.jit.unused
def _static_shape(x: Tensor) -> list[int]:
    if not is_tracing():
        return list(x.shape)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Converting a tensor to a Python integer")
        return [int(size) for size in x.shape]


def _shown(x: Tensor) -> str:
    if is_scripting():
        return str(x.shape)
    else:  # noqa: RET505 (TorchScript compiles only the branch that it takes)
        return str(tuple(x.shape))
