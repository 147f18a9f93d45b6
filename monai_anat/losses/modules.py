"""Module forms of loss functions of two tensors, for trainers that call ``loss(input, target)``."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from monai_anat.losses.consistency import global_consistency
from monai_anat.losses.correlation import redundancy_reduction
from monai_anat.losses.matching import matching_cross_entropy
from monai_anat.losses.ordering import order_cross_entropy
from monai_anat.losses.part_whole import composition_distance, decomposition_distance
from monai_anat.losses.restoration import restoration_mse
from monai_anat.losses.vicreg import variance_covariance

__all__ = [
    "CompositionLoss",
    "DecompositionLoss",
    "GlobalConsistencyLoss",
    "MatchingLoss",
    "OrderLoss",
    "RedundancyReductionLoss",
    "RestorationLoss",
    "VarianceCovarianceLoss",
]


class GlobalConsistencyLoss(nn.Module):
    """Module form of :func:`~monai_anat.losses.global_consistency`.

    >>> import torch
    >>> GlobalConsistencyLoss()(torch.eye(2), -torch.eye(2)).item()
    4.0
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of two embeddings (B, D)."""
        return global_consistency(input, target)


class RestorationLoss(nn.Module):
    """Module form of :func:`~monai_anat.losses.restoration_mse`.

    >>> import torch
    >>> RestorationLoss()(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2)).item()
    1.0
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of a restored and a clean image (B, C, H, W[, D])."""
        return restoration_mse(input, target)


class OrderLoss(nn.Module):
    """Module form of :func:`~monai_anat.losses.order_cross_entropy`.

    >>> import torch
    >>> OrderLoss()(torch.zeros(1, 3, 3), torch.tensor([[2, 0, 1]])).exp().round().item()
    3.0
    """

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of logits (B, N, N) and orders (B, N)."""
        return order_cross_entropy(input, target)


class MatchingLoss(nn.Module):
    """Module form of :func:`~monai_anat.losses.matching_cross_entropy`.

    Args:
        positive_weight: weight alpha in [0, 1].

    >>> import torch
    >>> MatchingLoss(0.5)(torch.zeros(1, 1, 2), torch.ones(1, 1, 2)).item()
    0.3465735912322998
    """

    def __init__(self, positive_weight: float) -> None:
        super().__init__()
        self.positive_weight = positive_weight

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of predicted and target matches (B, N, M)."""
        return matching_cross_entropy(input, target, self.positive_weight)


class RedundancyReductionLoss(nn.Module):
    """Module form of :func:`~monai_anat.losses.redundancy_reduction`, the loss of Barlow Twins.

    Args:
        redundancy_weight: weight of the off-diagonal entries.

    >>> import torch
    >>> z = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    >>> round(RedundancyReductionLoss()(z, z).item(), 6)
    0.0
    """

    def __init__(self, redundancy_weight: float = 5e-3) -> None:
        super().__init__()
        self.redundancy_weight = redundancy_weight

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of two embeddings (B, D)."""
        return redundancy_reduction(input, target, self.redundancy_weight)


class VarianceCovarianceLoss(nn.Module):
    """Module form of :func:`~monai_anat.losses.variance_covariance`, the loss of VICReg.

    Args:
        invariance_weight: weight of the invariance term.
        variance_weight: weight of the variance term.
        covariance_weight: weight of the covariance term.

    >>> import torch
    >>> round(VarianceCovarianceLoss()(torch.ones(2, 4), torch.ones(2, 4)).item(), 4)
    24.75
    """

    def __init__(
        self, invariance_weight: float = 25, variance_weight: float = 25, covariance_weight: float = 1
    ) -> None:
        super().__init__()
        self.weights = (invariance_weight, variance_weight, covariance_weight)

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of two embeddings (B, D)."""
        return variance_covariance(input, target, *self.weights)


class CompositionLoss(nn.Module):
    """Module form of :func:`~monai_anat.losses.composition_distance`.

    Args:
        reduction: "sum" or "mean" over the entries of an embedding.

    >>> import torch
    >>> CompositionLoss()(torch.eye(2), torch.eye(2)).item()
    0.0
    """

    def __init__(self, reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of composed and observed wholes (B, D)."""
        return composition_distance(input, target, self.reduction)


class DecompositionLoss(nn.Module):
    """Module form of :func:`~monai_anat.losses.decomposition_distance`.

    Args:
        reduction: "sum" or "mean" over the entries of an embedding.

    >>> import torch
    >>> DecompositionLoss()(torch.eye(2)[None], torch.eye(2)[None]).item()
    0.0
    """

    def __init__(self, reduction: Literal["sum", "mean"] = "sum") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        """Compute the loss of decomposed and observed parts (B, P, D)."""
        return decomposition_distance(input, target, self.reduction)
