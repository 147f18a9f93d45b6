"""Heads that match tokens across scales: dense projection, up-sampling, down-sampling."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from monai_anat.networks.heads.global_batch_norm import GlobalBatchNorm
from monai_anat.precision import at_least_float32

__all__ = ["DenseHead", "DownsamplingHead", "UpsamplingHead", "masked_mean"]


class DenseHead(nn.Module):
    """Project every position of a feature map to a unit vector with non-negative entries.

    Three times a 1x1 convolution, batch normalization and ReLU, then L2 normalization: the dense head of ACE
    (arXiv:2501.10131). Parameter names are those of the published files, ``layers.{0,1,2}.{0,1}``. Batch statistics
    cover all processes (:class:`GlobalBatchNorm`).

    Args:
        in_features: number of channels D of the input and the output.

    Raises:
        ValueError: if ``in_features`` is below 1.

    >>> DenseHead(8)(torch.randn(2, 8, 4, 4)).shape
    torch.Size([2, 8, 4, 4])
    """

    def __init__(self, in_features: int) -> None:
        super().__init__()
        _check_width(in_features)
        self.in_features = in_features
        self.layers = nn.Sequential(
            *[
                nn.Sequential(nn.Conv2d(in_features, in_features, 1), GlobalBatchNorm(in_features), nn.ReLU())
                for _ in range(3)
            ]
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """Map (B, D, h, w) to unit vectors (B, D, h, w). Positions where all channels are 0 stay 0."""
        out = self.layers(feature_map)
        return F.normalize(at_least_float32(out), dim=1)


class UpsamplingHead(nn.Module):
    """Decomposition head: predict the tokens of the parts of every token.

    Linear without bias to k*l*D, LayerNorm, ReLU, Linear, and depth to space: the up-sampling of ACE
    (arXiv:2501.10131). The k*l*D values of a token are ordered [sub-row, sub-column, D]. Parameter names are those of
    the published files, ``layer.{0,1,3}``.

    Args:
        in_features: number of channels D of the input and the output.
        scale: number of parts (k, l) of a token along rows and columns.

    Raises:
        ValueError: if a width or scale is below 1.

    >>> UpsamplingHead(8)(torch.zeros(2, 8, 4, 4)).shape
    torch.Size([2, 8, 8, 8])
    """

    def __init__(self, in_features: int, scale: Sequence[int] = (2, 2)) -> None:
        super().__init__()
        _check_width(in_features)
        self.in_features = in_features
        self.scale = _check_scale(scale)
        wide = in_features * self.scale[0] * self.scale[1]
        self.layer = nn.Sequential(
            nn.Linear(in_features, wide, bias=False), nn.LayerNorm(wide), nn.ReLU(), nn.Linear(wide, wide)
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """Map (B, D, h, w) to (B, D, k h, l w)."""
        parts: Tensor = self.layer(feature_map.movedim(1, -1))  # (B, h, w, k l D)
        parts = parts.unflatten(-1, (self.scale[0], self.scale[1], self.in_features))  # (B, h, w, k, l, D)
        return parts.permute(0, 5, 1, 3, 2, 4).flatten(4, 5).flatten(2, 3)  # (B, D, k h, l w)


class DownsamplingHead(nn.Module):
    """Composition head: predict the token of a whole from the tokens of its parts.

    The k x l tokens of each block are concatenated; Linear without bias to D, LayerNorm, ReLU, Linear follow: the
    down-sampling of ACE (arXiv:2501.10131). The k*l*D values of a block are ordered [D, sub-row, sub-column]. Parameter
    names are those of the published files, ``layer.{0,1,3}``.

    Args:
        in_features: number of channels D of the input and the output.
        scale: number of parts (k, l) of a whole along rows and columns.

    Raises:
        ValueError: if a width or scale is below 1, or (when called) the map does not consist of whole blocks.

    >>> DownsamplingHead(8)(torch.zeros(2, 8, 4, 4)).shape
    torch.Size([2, 8, 2, 2])
    """

    def __init__(self, in_features: int, scale: Sequence[int] = (2, 2)) -> None:
        super().__init__()
        _check_width(in_features)
        self.in_features = in_features
        self.scale = _check_scale(scale)
        wide = in_features * self.scale[0] * self.scale[1]
        self.layer = nn.Sequential(
            nn.Linear(wide, in_features, bias=False),
            nn.LayerNorm(in_features),
            nn.ReLU(),
            nn.Linear(in_features, in_features),
        )

    def forward(self, feature_map: Tensor) -> Tensor:
        """Map (B, D, h, w) to (B, D, h / k, w / l)."""
        rows, columns = self.scale
        height, width = feature_map.shape[2], feature_map.shape[3]
        if height % rows or width % columns:
            raise ValueError(
                f"feature_map must consist of blocks of {rows} x {columns} tokens, got {height} x {width}; "
                "take a grid that is a multiple of the scale"
            )
        blocks = feature_map.unflatten(3, (-1, columns)).unflatten(2, (-1, rows))  # (B, D, h/k, k, w/l, l)
        blocks = blocks.permute(0, 2, 4, 1, 3, 5).flatten(3)  # (B, h/k, w/l, D k l)
        out: Tensor = self.layer(blocks).movedim(-1, 1)
        return out


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Average the selected tokens of each image, in float32 or wider.

    Args:
        tokens: (B, N, D).
        mask: (B, N) bool, True for the tokens to average.

    Returns:
        (B, D); 0 for an image without selected tokens.

    >>> masked_mean(torch.tensor([[[1.0], [2.0], [6.0]]]), torch.tensor([[True, False, True]]))
    tensor([[3.5000]])
    """
    wide = torch.promote_types(tokens.dtype, torch.float32)
    weight = mask.to(wide)
    weight = weight / weight.sum(1, keepdim=True).clamp(min=1)
    return torch.einsum("bn,bnd->bd", weight, tokens.to(wide))


def _check_width(in_features: int) -> None:
    if in_features < 1:
        raise ValueError(f"in_features must be at least 1, got {in_features}; it is the backbone's num_features")


def _check_scale(scale: Sequence[int]) -> tuple[int, int]:
    if len(scale) != 2 or min(scale) < 1:
        raise ValueError(f"scale must be two whole numbers (rows, columns) of at least 1, got {tuple(scale)}")
    return scale[0], scale[1]
