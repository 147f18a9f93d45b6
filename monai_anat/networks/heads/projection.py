"""Projection head: a multi-layer perceptron with LayerNorm."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

__all__ = ["ProjectionHead"]


class ProjectionHead(nn.Sequential):
    """Multi-layer perceptron from features to the embedding space.

    ``[Linear, LayerNorm, ReLU]`` for every hidden width, then a Linear without bias: the global and the local head of
    PEAC (arXiv:2312.00335). Parameter names are ``0.weight``, ``1.weight``, ``3.weight``, ..., as in the published
    files (there under ``mlp.`` and ``mlp_local.``).

    Args:
        in_features: number of channels D of the features.
        out_features: width of the embedding.
        hidden_features: width of each hidden layer. Defaults to two layers of ``out_features``, as in PEAC.

    Raises:
        ValueError: if a width is below 1, or there is no hidden layer.

    Example:
        >>> import torch
        >>> head = ProjectionHead(32, 64)
        >>> head(torch.zeros(2, 49, 32)).shape
        torch.Size([2, 49, 64])
    """

    def __init__(self, in_features: int, out_features: int, hidden_features: Sequence[int] | None = None) -> None:
        hidden = (out_features, out_features) if hidden_features is None else tuple(hidden_features)
        if not hidden:
            raise ValueError("hidden_features must name at least one width, got (); omit it for two layers")
        widths = (in_features, *hidden, out_features)
        if min(widths) < 1:
            raise ValueError(f"all widths must be at least 1, got {widths} from in_features to out_features")
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU(inplace=True)]
        super().__init__(*layers, nn.Linear(widths[-2], widths[-1], bias=False))
        self.in_features = in_features
        self.out_features = out_features
