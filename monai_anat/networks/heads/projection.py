"""Heads that a pre-training method puts on a backbone: projection, patch order, restoration."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import static_shape

__all__ = ["OrderHead", "ProjectionHead", "RestorationHead"]


class ProjectionHead(nn.Sequential):
    """Multi-layer perceptron from features to the space in which embeddings are compared.

    ``[Linear, LayerNorm, ReLU]`` for every hidden width, then a Linear without bias: the global and the local head of
    PEAC (arXiv 2312.00335). The keys are those of the sequence, ``0.weight``, ``1.weight``, ``3.weight``, ..., as in
    the published files (there under ``mlp.`` and ``mlp_local.``).

    Args:
        in_features: channels D of the features.
        out_features: width of the embedding.
        hidden_features: width of each hidden layer; two of ``out_features`` when not given, as in PEAC.

    Raises:
        ValueError: for a width below 1 or no hidden layer at all.

    Example:
        >>> import torch
        >>> head = ProjectionHead(32, 64)
        >>> head(torch.zeros(2, 49, 32)).shape
        torch.Size([2, 49, 64])
    """

    def __init__(self, in_features: int, out_features: int, hidden_features: Sequence[int] | None = None) -> None:
        hidden = (out_features, out_features) if hidden_features is None else tuple(hidden_features)
        if not hidden:
            raise ValueError("hidden_features must name at least one width, got (); leave it away for two layers")
        widths = (in_features, *hidden, out_features)
        if min(widths) < 1:
            raise ValueError(f"all widths must be at least 1, got {widths} from in_features to out_features")
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(widths[-2], widths[-1], bias=False))
        self.in_features = in_features
        self.out_features = out_features


class OrderHead(nn.Module):
    """For every token, a score for each cell of the image that its content may have come from.

    One Linear with bias, shared by all tokens: POPAR (MICCAI DART 2022) and PEAC (arXiv 2312.00335). The target class
    at position j of a shuffled image is ``order[j]``.

    Args:
        in_features: channels D of the tokens.
        num_cells: number of cells N.

    Raises:
        ValueError: when a width is below 1.

    Example:
        >>> import torch
        >>> OrderHead(32, 49)(torch.zeros(2, 49, 32)).shape
        torch.Size([2, 49, 49])
    """

    def __init__(self, in_features: int, num_cells: int) -> None:
        super().__init__()
        if in_features < 1 or num_cells < 1:
            raise ValueError(
                f"in_features and num_cells must be at least 1, got in_features={in_features}, num_cells={num_cells}"
            )
        self.in_features = in_features
        self.num_cells = num_cells
        self.linear = nn.Linear(in_features, num_cells)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (B, N, num_cells) of the tokens (B, N, D)."""
        logits: Tensor = self.linear(tokens)
        return logits


class RestorationHead(nn.Module):
    """Paint every cell of the image from its one position in the feature map.

    A Linear from D to ``out_channels * cell_size ** spatial_dims`` values per position and one rearrangement, which is
    the 1x1 convolution and PixelShuffle of POPAR (MICCAI DART 2022) without their intermediate layout, in 2D and 3D.
    The values are channel-major: output index ``c * g * g + row * g + col`` with g the cell size.

    Args:
        in_features: channels D of the feature map.
        cell_size: pixels g per position and axis, ``backbone.strides[-1]``.
        out_channels: channels of the image.
        spatial_dims: 2 or 3.

    Raises:
        ValueError: for a size below 1 or another number of dimensions.

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
        """The image (B, out_channels, h * g, w * g[, d * g]) of the feature map (B, D, h, w[, d])."""
        dims, cell = self.spatial_dims, self.cell_size
        size = static_shape(feature_map)[2:]
        cells: Tensor = self.linear(feature_map.movedim(1, -1))  # (B, h, w, C * g * g)
        cells = cells.reshape(-1, *size, self.out_channels, *[cell] * dims)  # (B, h, w, C, g, g)
        # (B, C, h, g, w, g): each spatial axis followed by the axis inside the cell
        order = [0, dims + 1, *(axis for d in range(dims) for axis in (1 + d, dims + 2 + d))]
        return cells.permute(order).reshape(-1, self.out_channels, *(side * cell for side in size))
