"""Expander head: a wide multi-layer perceptron with batch normalization."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from monai_anat.networks.heads.global_batch_norm import GlobalBatchNorm

__all__ = ["ExpanderHead"]


class ExpanderHead(nn.Sequential):
    """Multi-layer perceptron with batch normalization, from pooled features to a wide embedding.

    ``[Linear, BatchNorm, ReLU]`` for every hidden width, then a Linear: the expander of VICReg (arXiv:2105.04906) and,
    without biases, the projector of Barlow Twins (arXiv:2103.03230). MLVICX (arXiv:2403.11504) ends with one more
    BatchNorm (``final_norm=True``). In training, the statistics are those of the batch over all processes. Views must
    therefore not share one forward pass, and a batch needs at least two images.

    Args:
        in_features: number of channels D of the pooled features.
        out_features: width of the embedding.
        hidden_features: width of each hidden layer. Defaults to two layers of ``out_features``.
        bias: whether the hidden Linears have a bias. In training, the BatchNorm that follows removes its effect.
        final_norm: end with a Linear with bias and a BatchNorm instead of a Linear without bias.
        running_statistics: track running statistics for evaluation. Without them, evaluation uses batch statistics.

    Raises:
        ValueError: if a width is below 1.

    >>> import torch
    >>> head = ExpanderHead(32, 64)
    >>> head(torch.randn(4, 32)).shape
    torch.Size([4, 64])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_features: Sequence[int] | None = None,
        *,
        bias: bool = True,
        final_norm: bool = False,
        running_statistics: bool = True,
    ) -> None:
        hidden = (out_features, out_features) if hidden_features is None else tuple(hidden_features)
        widths = (in_features, *hidden, out_features)
        if min(widths) < 1:
            raise ValueError(f"all widths must be at least 1, got {widths} from in_features to out_features")
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            norm = GlobalBatchNorm(after, track_running_stats=running_statistics)
            layers += [nn.Linear(before, after, bias=bias), norm, nn.ReLU(inplace=True)]
        layers.append(nn.Linear(widths[-2], widths[-1], bias=bias and final_norm))
        if final_norm:
            layers.append(GlobalBatchNorm(out_features, track_running_stats=running_statistics))
        super().__init__(*layers)
        self.in_features = in_features
        self.out_features = out_features
