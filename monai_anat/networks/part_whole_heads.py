"""Heads between an anatomical structure and its parts: parts to whole, whole to parts."""

from __future__ import annotations

from torch import Tensor, nn

__all__ = ["CompositionHead", "DecompositionHead"]


class CompositionHead(nn.Sequential):
    """Predict the embedding of a whole from those of its parts.

    Linear(P D, D), ReLU, Linear(D, D) on the parts one behind the other: the composability head of Adam-v2
    (Hosseinzadeh Taher et al., CVPR 2024, arXiv:2404.15672), with the keys of the published files, ``0`` and ``2``.

    Args:
        in_features: width D of an embedding.
        num_parts: P.

    Raises:
        ValueError: for a width below 1 or fewer than two parts.

    Example:
        >>> import torch
        >>> CompositionHead(32)(torch.zeros(2, 4, 32)).shape
        torch.Size([2, 32])
    """

    def __init__(self, in_features: int, num_parts: int = 4) -> None:
        _check(in_features, num_parts)
        layers = nn.Linear(num_parts * in_features, in_features), nn.ReLU(inplace=True)
        super().__init__(*layers, nn.Linear(in_features, in_features))
        self.in_features = in_features
        self.num_parts = num_parts

    def forward(self, parts: Tensor) -> Tensor:
        """The whole (B, D) of the parts (B, P, D), which always come in the same order."""
        whole: Tensor = super().forward(parts.flatten(1))  # (B, P * D)
        return whole


class DecompositionHead(nn.Sequential):
    """Predict the embeddings of the parts from that of the whole.

    Linear(D, D), ReLU, Linear(D, P D), cut into P: the decomposability head of Adam-v2 (Hosseinzadeh Taher et al.,
    CVPR 2024, arXiv:2404.15672), with the keys of the published files, ``0`` and ``2``.

    Args:
        in_features: width D of an embedding.
        num_parts: P.

    Raises:
        ValueError: for a width below 1 or fewer than two parts.

    Example:
        >>> import torch
        >>> DecompositionHead(32)(torch.zeros(2, 32)).shape
        torch.Size([2, 4, 32])
    """

    def __init__(self, in_features: int, num_parts: int = 4) -> None:
        _check(in_features, num_parts)
        layers = nn.Linear(in_features, in_features), nn.ReLU(inplace=True)
        super().__init__(*layers, nn.Linear(in_features, num_parts * in_features))
        self.in_features = in_features
        self.num_parts = num_parts

    def forward(self, whole: Tensor) -> Tensor:
        """The parts (B, P, D) of the whole (B, D)."""
        parts: Tensor = super().forward(whole)
        return parts.unflatten(1, (self.num_parts, self.in_features))


def _check(in_features: int, num_parts: int) -> None:
    if in_features < 1 or num_parts < 2:
        raise ValueError(
            f"in_features must be at least 1 and num_parts at least 2, got in_features={in_features} and "
            f"num_parts={num_parts}; a structure cut into 2 x 2 has 4 parts"
        )
