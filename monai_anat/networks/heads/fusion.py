"""Maps of all stages in one embedding, each pooled before it is projected."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.networks.backbones.backbone import static_shape
from monai_anat.networks.heads.expander import ExpanderHead

__all__ = ["FusionHead", "pool_resized"]


def pool_resized(feature_map: Tensor, resized_size: int, pooled_size: int) -> Tensor:
    """Average-pool a map as if it had first been resized bilinearly to another size.

    Resizing and pooling are both linear along each axis, so their product is one small matrix per axis, and the large
    map in between is never made. Each row of a matrix sums to 1: a constant stays what it is.

    Args:
        feature_map: (B, C, h, w).
        resized_size: side of the map in between.
        pooled_size: side of the result.

    Returns:
        (B, C, pooled_size, pooled_size).

    >>> pool_resized(torch.eye(4)[None, None], resized_size=8, pooled_size=2)
    tensor([[[[0.4453, 0.0547],
              [0.0547, 0.4453]]]])
    """
    rows, columns = (
        _pooling_matrix(side, resized_size, pooled_size, feature_map) for side in static_shape(feature_map)[2:]
    )
    narrow = F.linear(feature_map, columns)  # (B, C, h, p)
    return F.linear(narrow.transpose(2, 3), rows).transpose(2, 3)  # (B, C, p, p)


def _pooling_matrix(side: int, resized_size: int, pooled_size: int, like: Tensor) -> Tensor:
    """(pooled_size, side), what every pooled position takes of every position along one axis."""
    positions = torch.eye(side, dtype=torch.promote_types(like.dtype, torch.float32), device=like.device)[None]
    resized = F.interpolate(positions, resized_size, mode="linear", align_corners=False)  # (1, side, resized)
    return F.adaptive_avg_pool1d(resized, pooled_size)[0].T.to(like.dtype)


class FusionHead(nn.Module):
    """One embedding of the maps of all stages: MLVICX's "local" head (arXiv:2403.11504).

    Each map is resized to a common size, projected by a 1x1 convolution of its own to a common width, added to the
    others, average-pooled and flattened; an :class:`ExpanderHead` follows. All of that before the expander is linear,
    so each map is pooled first and projected then: the same numbers for a fraction of the work and the memory.

    Differs from the released code: there, the 1x1 convolutions are made anew inside ``forward``, after the optimizer
    was built, and never learn.

    Args:
        in_channels: channels of each map.
        out_features: width of the embedding.
        hidden_features: widths of the expander's hidden layers; two of ``out_features`` when not given.
        fused_channels: common width of the maps.
        fused_size: common side of the maps.
        pooled_size: positions per side that are left after pooling.
        final_norm: end with a BatchNorm.

    Raises:
        ValueError: for no map, a size below 1, or more pooled than fused positions.

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

    def fuse(self, maps: Sequence[Tensor]) -> Tensor:
        """The sum of the projected, pooled maps (B, C[s], h[s], w[s]): (B, fused_channels * pooled_size ** 2)."""
        pooled = [pool_resized(feature_map, self.fused_size, self.pooled_size) for feature_map in maps]
        projected = [projection(m) for projection, m in zip(self.projections, pooled, strict=True)]
        return torch.stack(projected).sum(0).flatten(1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The embedding (B, out_features) of the maps (B, C[s], h[s], w[s])."""
        embedding: Tensor = self.expander(self.fuse(maps))
        return embedding
