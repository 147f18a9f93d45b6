"""Multi-level fusion head: the maps of all stages in one embedding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import static_shape
from monai_anat.networks.heads.expander import ExpanderHead
from monai_anat.precision import at_least_float32

__all__ = ["FusionHead", "pool_resized"]


def pool_resized(feature_map: Tensor, resized_size: int, pooled_size: int) -> Tensor:
    """Resize a map bilinearly and average-pool the result, in one step.

    Resizing and pooling are both linear along each axis, so their product is one small matrix per axis, and the large
    intermediate map is never computed. Each row of a matrix sums to 1, so constants are preserved.

    Args:
        feature_map: (B, C, h, w).
        resized_size: side of the intermediate map.
        pooled_size: side of the result.

    Returns:
        (B, C, pooled_size, pooled_size).

    >>> pool_resized(torch.eye(4)[None, None], resized_size=8, pooled_size=2)
    tensor([[[[0.4453, 0.0547],
              [0.0547, 0.4453]]]])
    """
    height, width = static_shape(feature_map)[2], static_shape(feature_map)[3]
    rows = _pooling_matrix(height, resized_size, pooled_size, feature_map)
    columns = _pooling_matrix(width, resized_size, pooled_size, feature_map)
    narrow = F.linear(feature_map, columns)  # (B, C, h, p)
    return F.linear(narrow.transpose(2, 3), rows).transpose(2, 3)  # (B, C, p, p)


def _pooling_matrix(side: int, resized_size: int, pooled_size: int, like: Tensor) -> Tensor:
    """(pooled_size, side), the weight of every position in every pooled position along one axis."""
    positions = at_least_float32(torch.eye(side, dtype=like.dtype, device=like.device))[None]
    resized = F.interpolate(positions, resized_size, mode="linear", align_corners=False)  # (1, side, resized)
    return F.adaptive_avg_pool1d(resized, pooled_size)[0].T.to(like.dtype)


class FusionHead(nn.Module):
    """Embed the maps of all stages together: the "local" head of MLVICX (arXiv:2403.11504).

    Each map is resized to a common size and projected to a common width by its own 1x1 convolution. The sum of the maps
    is average-pooled, flattened and embedded by an :class:`ExpanderHead`. Everything before the expander is linear, so
    each map is pooled before it is projected: the same values for a fraction of the time and memory.

    Differs from the released code: there, the 1x1 convolutions are created inside ``forward``, after the optimizer was
    built, and are never trained.

    Args:
        in_channels: number of channels of each map.
        out_features: width of the embedding.
        hidden_features: widths of the expander's hidden layers. Defaults to two layers of ``out_features``.
        fused_channels: number of channels to which every map is projected.
        fused_size: side to which every map is resized.
        pooled_size: side of the sum of the maps after average pooling.
        final_norm: end with a BatchNorm.

    Raises:
        ValueError: if there is no map, a size is below 1, or ``pooled_size`` exceeds ``fused_size``.

    >>> head = FusionHead((8, 16), 32, fused_channels=12, fused_size=16, pooled_size=2)
    >>> head([torch.randn(4, 8, 14, 14), torch.randn(4, 16, 7, 7)]).shape
    torch.Size([4, 32])
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_features: int,
        hidden_features: Sequence[int] | None = None,
        *,
        fused_channels: int = 512,
        fused_size: int = 64,
        pooled_size: int = 4,
        final_norm: bool = True,
    ) -> None:
        super().__init__()
        if not in_channels or min(*in_channels, fused_channels) < 1 or not 1 <= pooled_size <= fused_size:
            raise ValueError(
                "in_channels must name at least one map, all widths be at least 1 and pooled_size lie between 1 and "
                f"fused_size, got in_channels={tuple(in_channels)}, fused_channels={fused_channels}, "
                f"pooled_size={pooled_size}, fused_size={fused_size}"
            )
        self.fused_size = fused_size
        self.pooled_size = pooled_size
        self.projections = nn.ModuleList(nn.Conv2d(channels, fused_channels, 1) for channels in in_channels)
        self.expander = ExpanderHead(
            fused_channels * pooled_size**2, out_features, hidden_features, final_norm=final_norm
        )

    def fuse(self, maps: list[Tensor]) -> Tensor:
        """Sum the projected, pooled maps (B, C[s], h[s], w[s]): (B, fused_channels * pooled_size ** 2)."""
        if len(maps) != len(self.projections):
            raise ValueError(f"maps must be {len(self.projections)} feature maps, got {len(maps)}")
        projected: list[Tensor] = []
        for level, projection in enumerate(self.projections):
            projected.append(projection(pool_resized(maps[level], self.fused_size, self.pooled_size)))
        return torch.stack(projected).sum(0).flatten(1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Compute the embedding (B, out_features) of maps (B, C[s], h[s], w[s])."""
        embedding: Tensor = self.expander(self.fuse(maps))
        return embedding
