"""Image restoration head: pixels from the last feature map."""

# ruff: noqa: RUF005 (TorchScript cannot unpack lists)
from __future__ import annotations

from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import static_shape

__all__ = ["RestorationHead"]


class RestorationHead(nn.Module):
    """Predict the pixels of every cell from its position in the feature map.

    A Linear from D to ``out_channels * cell_size ** spatial_dims`` values per position and one rearrangement. It equals
    the 1x1 convolution and PixelShuffle of POPAR (MICCAI DART 2022), in 2D and 3D. The values are channel-major: output
    index ``c * g * g + row * g + col``, where g is the cell size.

    Args:
        in_features: number of channels D of the feature map.
        cell_size: pixels g per position and axis, ``backbone.strides[-1]``.
        out_channels: number of image channels.
        spatial_dims: 2 for images, 3 for volumes.

    Raises:
        ValueError: if a size is below 1, or ``spatial_dims`` is neither 2 nor 3.

    Example:
        >>> import torch
        >>> RestorationHead(32, 8)(torch.zeros(2, 32, 14, 14)).shape
        torch.Size([2, 1, 112, 112])
        >>> RestorationHead(32, 4, spatial_dims=3)(torch.zeros(1, 32, 3, 4, 5)).shape
        torch.Size([1, 1, 12, 16, 20])
    """

    def __init__(self, in_features: int, cell_size: int, out_channels: int = 1, spatial_dims: int = 2) -> None:
        super().__init__()
        if spatial_dims not in (2, 3):
            raise ValueError(f"spatial_dims must be 2 or 3, got spatial_dims={spatial_dims}")
        if min(in_features, cell_size, out_channels) < 1:
            raise ValueError(
                "in_features, cell_size and out_channels must be at least 1, got "
                f"in_features={in_features}, cell_size={cell_size}, out_channels={out_channels}"
            )
        self.in_features = in_features
        self.cell_size = cell_size
        self.out_channels = out_channels
        self.spatial_dims = spatial_dims
        self.linear = nn.Linear(in_features, out_channels * cell_size**spatial_dims)

    def forward(self, feature_map: Tensor) -> Tensor:
        """Predict the image (B, out_channels, h * g, w * g[, d * g]) of a feature map (B, D, h, w[, d])."""
        dims, cell = self.spatial_dims, self.cell_size
        size = static_shape(feature_map)[2:]
        cells: Tensor = self.linear(feature_map.movedim(1, -1))  # (B, h, w, C * g * g)
        cells = cells.reshape([-1] + size + [self.out_channels] + [cell for _ in size])  # (B, h, w, C, g, g)
        # (B, C, h, g, w, g): each spatial axis followed by the axis inside the cell
        order = [0, dims + 1]
        for d in range(dims):
            order = order + [1 + d, dims + 2 + d]
        return cells.permute(order).reshape([-1, self.out_channels] + [side * cell for side in size])
